"""What makes a machine a controller: its boot file, its units, the first administrator, and the pairing."""
