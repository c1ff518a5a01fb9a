"""Where the files we ship lie: in a checkout beside the package, in an installed wheel under share/."""

from __future__ import annotations

from pathlib import Path

PACKAGE = Path(__file__).resolve().parent
_CHECKOUT = PACKAGE.parent


def share_dir(name: str) -> Path:
    """The directory `elements`, `images` or `pxe`, wherever this installation keeps it."""
    if (_CHECKOUT / "pyproject.toml").is_file() and (_CHECKOUT / name).is_dir():
        return _CHECKOUT / name
    return PACKAGE / "share" / name
