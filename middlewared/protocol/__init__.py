"""Floor 1: machines with two sides, without I/O; time is handed in."""
