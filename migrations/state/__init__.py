"""Schema of state.db."""
