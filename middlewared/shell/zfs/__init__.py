"""ZFS by its commands. Each dialect is one file for what is asked and one, pure, for what is answered."""
