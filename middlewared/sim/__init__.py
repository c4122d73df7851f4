"""Shipped stand-ins for the outside, for tests and the simulator: no I/O, no time, no chance."""
