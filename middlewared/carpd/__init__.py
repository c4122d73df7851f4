"""The process that holds the virtual addresses."""
