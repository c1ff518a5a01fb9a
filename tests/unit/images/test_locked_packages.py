"""Lock files against what a mirror has; the mirror is a directory."""

from __future__ import annotations

import lzma
from pathlib import Path

import pytest

from baremetal.images import archive, builder, errors
from baremetal.images.definition import load
from baremetal.images.mirror import Mirror

A, B, C = "a" * 64, "b" * 64, "c" * 64


def stanza(name: str, version: str, digest: str) -> str:
    return f"Package: {name}\nVersion: {version}\nArchitecture: amd64\nSHA256: {digest}\n\n"


@pytest.fixture
def mirror(tmp_path: Path) -> Mirror:
    for suite, text in (
        ("bookworm", stanza("dash", "0.5.12-2", A) + stanza("hello", "2.10-3", B)),
        ("bookworm-updates", stanza("dash", "0.5.12-3", C)),
    ):
        index = tmp_path / f"archive/dists/{suite}/main/binary-amd64/Packages.xz"
        index.parent.mkdir(parents=True)
        index.write_bytes(lzma.compress(text.encode()))
    return Mirror(archive=f"file://{tmp_path}/archive")


GONE = [  # a row of the lock file        what is told
    (f"dash 0.5.12-2 amd64 {A}", []),
    (f"dash 0.5.12-3 amd64 {C}", []),
    ("hello 2.10-3 amd64", []),
    (f"dash 0.5.12-1 amd64 {A}", ["dash 0.5.12-1 is gone: the mirror has 0.5.12-2, 0.5.12-3"]),
    (f"nano 7 amd64 {A}", ["nano 7 is gone: the mirror has no version of it"]),
    (f"hello 2.10-3 amd64 {A}", ["hello 2.10-3 is another file there (sha256 bbbbbbbbbbbb…, locked aaaaaaaaaaaa…)"]),
]


@pytest.mark.parametrize(("row", "told"), GONE, ids=[row[0][:20] for row in GONE])
def test_what_the_mirror_cannot_give_is_told(tmp_path: Path, mirror: Mirror, row: str, told: list[str]) -> None:
    lock = tmp_path / "web.lock"
    lock.write_text(f"# Packages\nepoch 1735689600\n{row}\n")
    index = archive.read(mirror, "bookworm", "amd64")
    assert index is not None
    assert archive.gone(lock, index) == told


def test_a_mirror_that_is_silent_is_left_to_the_build(tmp_path: Path) -> None:
    assert archive.read(Mirror(archive=f"file://{tmp_path}/none"), "bookworm", "amd64") is None


def test_a_locked_build_fails_before_it_begins(tmp_path: Path, mirror: Mirror, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DIB_DISTRIBUTION_MIRROR", mirror.archive)
    monkeypatch.setenv("DIB_DEBIAN_SECURITY_MIRROR", "")
    (tmp_path / "web.toml").write_text('elements = ["debian-base"]\nkind = "tree"\n')
    (tmp_path / "web.lock").write_text(f"epoch 1735689600\nhello 2.10-3 amd64 {B}\ndash 0.5.11 amd64 {A}\n")
    with pytest.raises(errors.BuildFailed) as caught:
        builder.build(load(tmp_path / "web.toml"), builder.Options(cache=tmp_path / "cache"))
    assert caught.value.brief == "web: 1 of its locked packages cannot be had from the mirror any more"
    assert "dash 0.5.11 is gone: the mirror has 0.5.12-2, 0.5.12-3" in caught.value.detail
    assert "baremetal image lock web" in caught.value.fix
    assert not list((tmp_path / "cache/layers").glob("[0-9a-f]*"))
