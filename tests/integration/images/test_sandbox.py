"""What a script of an element can reach of the machine it is built on. No network; needs root.

A guard against mistakes, and against trees whose links point at this machine;
docs/explanation/images.md says what it is not.
"""

from __future__ import annotations

import os
import shutil
import socket
import stat
import tarfile
import tempfile
import time
from pathlib import Path

import pytest

from baremetal.errors import BaremetalError
from baremetal.images import builder, errors
from baremetal.images.definition import Definition

pytestmark = pytest.mark.integration
ELEMENTS = Path(__file__).parents[2] / "data/images/elements"


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


def run(cache: Path, place: Path, script: str, text: str, *, private: tuple[Path, ...] = ()) -> dict[str, str]:
    """Build a tree with one script; what the files of its /told say."""
    path = place / "e/reaches" / script
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/bash\ntold=${{TARGET_ROOT}}/told; {text}\n")
    path.chmod(0o755)
    wanted = Definition("little", ("host-os", "reaches"), kind="tree", formats=("tar",))
    options = builder.Options(
        cache=cache, elements_path=(place / "e", ELEMENTS), offline=True, epoch="1735689600", private=private
    )
    built = builder.build(wanted, options)
    with tarfile.open(built.path) as tar:
        return {
            member.name.removeprefix("./told/"): file.read().decode(errors="replace")
            for member in tar
            if member.name.startswith("./told/") and (file := tar.extractfile(member))
        }


REACHES = """mkdir -p $told
python3 -c 'import socket; socket.sethostname("hacked")'
echo 77 > /proc/sys/vm/swappiness
date -s 2001-01-01
true"""


def test_settings_of_the_machine_stay_as_they_are(cache: Path, tmp_path: Path) -> None:
    before = socket.gethostname(), Path("/proc/sys/vm/swappiness").read_text()
    run(cache, tmp_path, "extra-data.d/50-reach", REACHES)
    assert time.time() > 1.7e9
    assert (socket.gethostname(), Path("/proc/sys/vm/swappiness").read_text()) == before


def test_a_script_in_the_tree_cannot_change_the_kernel_either(cache: Path, tmp_path: Path) -> None:
    before = Path("/proc/sys/vm/swappiness").read_text()
    text = "mkdir /told; echo 77 > /proc/sys/vm/swappiness; grep CapBnd /proc/self/status > /told/caps"
    told = run(cache, tmp_path, "install.d/50-reach", text)
    assert Path("/proc/sys/vm/swappiness").read_text() == before
    bound = int(told["caps"].split()[1], 16)
    taken = [12, 16, 17, 22, 25]  # net_admin, sys_module, sys_rawio, sys_boot, sys_time
    assert not [number for number in taken if bound >> number & 1]
    assert bound >> 21 & 1  # sys_admin: elements mount things


def test_the_shells_secrets_are_not_in_any_process_a_script_sees(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CLOUD_TOKEN", "very-secret-token")
    text = "mkdir /told; for p in /proc/[0-9]*; do cat $p/environ >> /told/all 2> /dev/null; done; true"
    told = run(cache, tmp_path, "install.d/50-reach", text)
    assert "PATH=" in told["all"]
    assert "very-secret-token" not in told["all"]


def test_keys_and_sockets_of_the_server_are_not_seen(cache: Path, tmp_path: Path) -> None:
    keys = tmp_path / "state/keys"
    keys.mkdir(parents=True)
    (keys / "signing.pem").write_text("PRIVATE")
    text = f"mkdir -p $told; ls -A {keys} > $told/there; cat {keys}/* > $told/read; true"
    told = run(cache, tmp_path, "extra-data.d/50-reach", text, private=(keys,))
    assert told == {"there": "", "read": ""}
    assert (keys / "signing.pem").read_text() == "PRIVATE"


@pytest.mark.parametrize("link", ["tmp", "var/log", "root"])
def test_a_link_of_the_tree_is_followed_in_the_tree(
    cache: Path, tmp_path: Path, request: pytest.FixtureRequest, link: str
) -> None:
    there = Path(tempfile.mkdtemp(dir="/var/tmp"))  # below /tmp, the first of the links would lead to itself
    request.addfinalizer(lambda: shutil.rmtree(there))
    (there / "kept.log").write_text("mine\n")
    text = f"cd $TARGET_ROOT; rm -rf {link}; ln -s {there} {link}; mkdir -p .{there}"
    run(cache, tmp_path, "root.d/90-reach", text)
    assert (there / "kept.log").read_text() == "mine\n"


def test_a_proc_that_is_a_link_is_refused_in_words(cache: Path, tmp_path: Path) -> None:
    with pytest.raises(errors.BuildFailed) as caught:
        run(cache, tmp_path, "root.d/90-reach", "rmdir $TARGET_ROOT/proc; ln -s /etc $TARGET_ROOT/proc; exit 0")
    assert "/proc of the image is a link to /etc" in caught.value.detail


def test_what_is_told_of_a_build_holds_no_password(cache: Path) -> None:
    env = {"DIB_DEV_USER_PASSWORD": "hush-hush", "DIB_PLAIN": "shown"}
    wanted = Definition("little", ("host-os",), kind="tree", formats=("tar",), env=env)
    options = builder.Options(cache=cache, elements_path=(ELEMENTS,), offline=True, epoch="1735689600")
    built = builder.build(wanted, options)
    for path in built.directory.glob("*.json"):
        assert "hush-hush" not in path.read_text(), path
    assert "shown" in (built.directory / "provenance.json").read_text()
    assert built.log_dir is not None
    assert stat.S_IMODE(built.log_dir.stat().st_mode) == 0o700


def test_a_cache_others_can_write_to_is_refused(tmp_path: Path) -> None:
    wanted = Definition("little", ("host-os",), kind="tree")
    open_to_all, foreign, file = tmp_path / "open", tmp_path / "foreign", tmp_path / "file"
    open_to_all.mkdir()
    open_to_all.chmod(0o777)
    foreign.mkdir()
    os.chown(foreign, 12345, 12345)
    file.write_text("")
    for place, said in ((open_to_all, "anybody may write"), (foreign, "user 12345"), (file, "cannot hold a cache")):
        with pytest.raises(BaremetalError, match=said):
            builder.build(wanted, builder.Options(cache=place, elements_path=(ELEMENTS,), offline=True))
