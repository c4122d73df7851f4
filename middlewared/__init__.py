"""High-availability middleware for dual-controller storage."""

__version__ = "0.1.0"
