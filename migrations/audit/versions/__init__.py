"""Revisions of audit.db."""
