"""fenced with a lease below a second, which no kernel would keep: here nothing has an address, and waits are short."""

from __future__ import annotations

import sys

from middlewared import boot_rules
from middlewared.fenced.__main__ import main

if __name__ == "__main__":
    boot_rules.RULES = tuple(rule for rule in boot_rules.RULES if rule is not boot_rules.lease_is_whole)
    sys.exit(main())
