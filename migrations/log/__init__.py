"""Schema of log.db."""
