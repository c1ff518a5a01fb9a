"""`python3 -m baremetal.agents VERB`: on nodes, where there is no `baremetal` command.

The ramdisk's verb comes first and imports nothing else: it is on the way from
power-on to hello.
"""

from __future__ import annotations

import sys


def main() -> int:
    if sys.argv[1:2] == ["ramdisk"]:
        from baremetal.agents import ramdisk

        return ramdisk.main(sys.argv[2:])
    from importlib import import_module

    return int(import_module("baremetal.agents.main").main(sys.argv[1:]) or 0)


if __name__ == "__main__":
    sys.exit(main())
