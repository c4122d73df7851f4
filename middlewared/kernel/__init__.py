"""Floor 0: facts and decisions. No I/O, no time, no chance."""
