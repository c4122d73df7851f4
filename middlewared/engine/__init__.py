"""The only writer, and the way of a call through it."""
