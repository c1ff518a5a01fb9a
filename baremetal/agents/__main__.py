"""`python3 -m baremetal.agents VERB`: on nodes, where there is no `baremetal` command.

The ramdisk's verb comes first and imports nothing else: it is on the way from
power-on to hello.
"""

from __future__ import annotations

import gc
import sys
from types import ModuleType


class Late(ModuleType):
    """A module that is loaded when something of it is wanted.

    `dataclasses` imports `inspect` and `copy`, `ssl` imports `base64`, `socket` imports `selectors`, and they
    hardly ever use them: with what those import, a sixth of the agent's way to hello.
    """

    def __getattr__(self, name: str) -> object:
        if name.startswith("__"):
            raise AttributeError(name)
        if sys.modules.get(self.__name__) is self:
            del sys.modules[self.__name__]
        from importlib import import_module

        return getattr(import_module(self.__name__), name)


def late() -> None:
    """From here on these are loaded when they are wanted."""
    for name in ("inspect", "copy", "base64", "selectors"):
        sys.modules.setdefault(name, Late(name))


def main() -> int:
    if sys.argv[1:2] == ["ramdisk"]:
        gc.disable()  # nothing that is imported becomes garbage: looking for it is a tenth of the imports' time
        late()
        from baremetal.agents import ramdisk

        gc.freeze()
        gc.enable()
        return ramdisk.main(sys.argv[2:])
    from importlib import import_module

    return int(import_module("baremetal.agents.main").main(sys.argv[1:]) or 0)


if __name__ == "__main__":
    sys.exit(main())
