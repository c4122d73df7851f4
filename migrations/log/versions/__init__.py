"""Revisions of log.db."""
