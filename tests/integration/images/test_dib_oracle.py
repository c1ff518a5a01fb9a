"""The original disk-image-create and our engine on the same elements: the trees are compared.

Needs root and a loop device; no network. The elements write down what each
phase sees (directory, variables, mounts), so a difference in the driver shows.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

pytestmark = pytest.mark.peers
ELEMENTS = Path(__file__).parents[2] / "data/images/elements"
BAREMETAL = Path(sys.executable).parent / "baremetal"

# What differs, and why that is right.
KNOWN = {
    "etc/fstab": "UUID and growfs in ours, LABEL in theirs",
    "lost+found": "theirs is packed from a mounted file system",
    "proc": "an empty directory in ours, left out of theirs",
    "sys": "likewise",
    "etc/phases/array": "sudo drops exported bash functions in theirs, so the chroot has no element array",
}


def build(out: Path, *words: str) -> None:
    env = {**os.environ, "DIB_IMAGE_SIZE": "0.5", "ELEMENTS_PATH": str(ELEMENTS)}
    env.pop("DIB_RELEASE", None)
    command = [
        str(BAREMETAL),
        "image",
        "build",
        "-n",
        "-t",
        "tar",
        "-o",
        str(out),
        *words,
        "host-os",
        "greet",
        "phases",
    ]
    done = subprocess.run(command, env=env, cwd=out.parent, capture_output=True, text=True, check=False)
    assert done.returncode == 0, (done.stdout + done.stderr)[-3000:]


def listing(path: Path) -> dict[str, str]:
    """name -> type, mode, owner, and content or link target."""
    found = {}
    with tarfile.open(path) as tar:
        for member in tar:
            name = member.name.removeprefix("./").rstrip("/")
            if name in (".", "") or name.split("/")[0] == "dev":  # theirs packs the host's /dev
                continue
            file = tar.extractfile(member) if member.isfile() else None
            body = file.read() if file else member.linkname.encode()
            body = re.sub(rb" image=\S+", b"", body)  # theirs is the output's path, ours the image's name
            found[name] = f"{member.type!r} {member.mode:o} {member.uid}:{member.gid} {body!r}"
    return found


def test_the_same_tree_as_disk_image_create(tmp_path: Path) -> None:
    if not Path("/dev/loop-control").exists():
        pytest.fail("the original disk-image-create needs /dev/loop-control")
    build(tmp_path / "theirs", "--engine", "dib")
    build(tmp_path / "ours", "--offline", "--cache-dir", str(tmp_path / "cache"))
    theirs, ours = listing(tmp_path / "theirs.tar"), listing(tmp_path / "ours.tar")
    differ = {n: (theirs.get(n), ours.get(n)) for n in theirs.keys() | ours.keys() if theirs.get(n) != ours.get(n)}
    assert {name: pair for name, pair in differ.items() if name not in KNOWN} == {}
    assert len(ours) > 60
