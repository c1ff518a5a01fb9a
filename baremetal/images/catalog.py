"""Where image definitions are: beside you, then those we ship."""

from __future__ import annotations

from difflib import get_close_matches
from pathlib import Path

from baremetal.images.definition import Definition, load
from baremetal.images.errors import ImageNotFound
from baremetal.paths import share_dir


def directories() -> list[Path]:
    """./images first, then the ones that come with us."""
    found: list[Path] = []
    for path in (Path.cwd() / "images", share_dir("images")):
        if path.is_dir() and path.resolve() not in found:
            found.append(path.resolve())
    return found


def definitions() -> dict[str, Path]:
    """Every definition by name; the first directory wins."""
    found: dict[str, Path] = {}
    for directory in directories():
        for path in sorted(directory.glob("*.toml")):
            found.setdefault(path.stem, path)
    return found


def is_definition(ref: str) -> bool:
    """True for the name of a definition or a path to a .toml file."""
    return ref.endswith(".toml") or ref in definitions()


def find(ref: str) -> Definition:
    """A definition by name or path; ImageNotFound names the nearest and where it was looked for."""
    if ref.endswith(".toml"):
        return load(Path(ref))
    known = definitions()
    if ref in known:
        return load(known[ref])
    near = get_close_matches(ref, known, 1)
    raise ImageNotFound(
        f"no image definition {ref!r}",
        detail="looked in:\n" + "\n".join(f"  {path}" for path in directories()),
        fix=f"did you mean {near[0]}?" if near else "write one, or name elements: image build -o NAME debian-base …",
    )
