"""What lists of elements say about each: the first sentence of its README, however that begins."""

from __future__ import annotations

from pathlib import Path

import pytest

from baremetal.images import lint

READMES = [
    ("A page served by nginx.\n", "A page served by nginx"),  # as docs/how-to/build-an-image.md writes it
    ("# web\n\nA page. More of it.\n", "A page"),
    ("web\n===\n\nA page served by nginx.\n", "A page served by nginx"),
    ("===\nweb\n===\nA page.\n", "A page"),
    ("web\n\nA page.\n", "A page"),
    ("web\n", ""),
    ("", ""),
    ("# web\n", ""),
]


@pytest.mark.parametrize(("text", "said"), READMES)
def test_first_sentence(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "README.md").write_text(text)
    assert lint.about(tmp_path) == said
