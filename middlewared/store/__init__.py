"""log.db and state.db: what is durable on this controller."""
