"""Whose build cache is taken: root's own, and one that only by its top was handed to a server's user."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from baremetal.images.errors import CacheRefused
from baremetal.images.locks import own

pytestmark = pytest.mark.integration
NOBODY = 65534


def cache(tmp_path: Path, inside: int) -> Path:
    path = tmp_path / "cache"
    (path / "locks").mkdir(parents=True)
    (path / "layers").mkdir()
    os.chown(path, NOBODY, -1)
    os.chown(path / "layers", inside, -1)
    return path


def test_root_takes_back_what_is_its_own_inside(tmp_path: Path) -> None:
    path = cache(tmp_path, inside=0)
    own(path)
    assert path.stat().st_uid == 0


def test_a_cache_that_another_user_filled_is_refused_with_a_way_on(tmp_path: Path) -> None:
    path = cache(tmp_path, inside=NOBODY)
    with pytest.raises(CacheRefused, match="belongs to user 65534") as caught:
        own(path)
    assert "chown" in caught.value.fix
    assert path.stat().st_uid == NOBODY


def test_another_directory_than_a_cache_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "home").mkdir()
    os.chown(tmp_path / "home", NOBODY, -1)
    with pytest.raises(CacheRefused):
        own(tmp_path / "home")
    assert (tmp_path / "home").stat().st_uid == NOBODY
