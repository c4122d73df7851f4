"""The product's own plugins; importable as middlewared_plugins."""
