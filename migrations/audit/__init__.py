"""Schema of audit.db."""
