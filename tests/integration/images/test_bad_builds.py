"""What goes wrong in a build, and the one clear error it gives. No network but loopback.

Needs root (namespaces, overlayfs) and mmdebstrap; the operating system is this
machine's shell and its libraries, as in test_build_offline.py.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from processes import by_pid, running

from baremetal.images import builder, errors
from baremetal.images.definition import Definition, Disk
from baremetal.images.layers import LayerStore

pytestmark = pytest.mark.integration
ELEMENTS = Path(__file__).parents[2] / "data/images/elements"


def definition(*elements: str, kind: str = "disk", env: dict[str, str] | None = None) -> Definition:
    return Definition("little", ("host-os", *elements), kind=kind, disk=Disk(extra_bytes=8 << 20), env=env or {})


def options(cache: Path, *more: Path, confined: bool = True) -> builder.Options:
    return builder.Options(
        cache=cache, elements_path=(*more, ELEMENTS), offline=True, epoch="1735689600", confined=confined
    )


def element(root: Path, name: str, script: str, text: str) -> Path:
    path = root / name / script
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/bash\nset -eu\n{text}\n")
    path.chmod(0o755)
    (root / name / "README.md").write_text(f"# {name}\n\nFor a test.\n")
    return root


OUTSIDE = "/var/lib/baremetal-test-wrote-outside"


@pytest.mark.parametrize("script", ["extra-data.d/60-escape", "cleanup.d/60-escape"])
def test_a_script_that_writes_outside_is_stopped_and_named(tmp_path: Path, script: str) -> None:
    mine = element(tmp_path / "e", "escapes", script, f"touch {OUTSIDE}")
    with pytest.raises(errors.BuildFailed, match=rf"escapes: {script} failed") as caught:
        builder.build(definition("escapes"), options(tmp_path / "c", mine))
    assert "Read-only file system" in caught.value.detail
    assert "--unconfined" in caught.value.fix
    assert not Path(OUTSIDE).exists()


def test_inside_the_tree_that_path_is_the_images_own(tmp_path: Path) -> None:
    mine = element(tmp_path / "e", "settles", "install.d/60-settle", f"mkdir -p /var/lib; echo a > {OUTSIDE}")
    built = builder.build(definition("settles"), options(tmp_path / "c", mine))
    assert f" {OUTSIDE}\t" in (built.directory / "files.txt").read_text()
    assert not Path(OUTSIDE).exists()


ON_A_SMALL_DISK = """
import sys
from pathlib import Path
sys.path.insert(0, {here!r})
import test_bad_builds as t
from baremetal.images import builder
from baremetal.errors import BaremetalError
mine = t.element(Path({place!r}, "e"), "fills", {script!r}, {text!r})
try:
    builder.build(t.definition("fills"), t.options(Path({place!r}, "small"), mine))
except BaremetalError as exc:
    print(type(exc).__name__, "|", exc.brief, "|", exc.fix)
"""
FULL = [  # when the file system fills up: script that fills it, its text, what is told
    (
        "in a script",
        "install.d/60-fill",
        "for i in {1..99999}; do printf '%01000d' 0; done > /big",
        "fills: install.d/60-fill failed",
    ),
    (  # as apt-get does when a download finds no space
        "and the script waits for ever",
        "install.d/60-fill",
        "for i in {1..99999}; do printf '%01000d' 0; done > /big 2> /dev/null || sleep 500",
        "little: no space left",
    ),
    (
        "in the disk stage",
        "cleanup.d/60-fill",
        'dd if=/dev/urandom of="$TARGET_ROOT/big" bs=1M count=30',
        "little: no space",
    ),
]


@pytest.mark.parametrize(("when", "script", "text", "told"), FULL, ids=[row[0] for row in FULL])
def test_a_full_file_system_is_told_with_what_to_do(
    tmp_path: Path, when: str, script: str, text: str, told: str
) -> None:
    small = tmp_path / "small"
    small.mkdir()
    code = ON_A_SMALL_DISK.format(here=str(Path(__file__).parent), place=str(tmp_path), script=script, text=text)
    shell = f'mount -t tmpfs -o size=80m,mode=755 tmpfs "{small}" && exec "$0" -c "$1"'
    done = subprocess.run(
        ["unshare", "--mount", "--propagation", "private", "sh", "-c", shell, sys.executable, code],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])},
        capture_output=True,
        text=True,
        check=False,
    )
    assert told in done.stdout, done.stdout + done.stderr
    assert "another --cache-dir" in done.stdout


KILLED = """
import sys
from pathlib import Path
sys.path.insert(0, {here!r})
import test_bad_builds as t
from baremetal.images import builder
builder.build(t.definition("greet", "phases"), t.options(Path({cache!r})), lambda *a: print(*a[:2], flush=True))
"""
# The step and script at whose beginning the build is killed; the steps whose layers are whole by then.
MOMENTS = [
    ("root 10-host-os", []),
    ("extra-data 30-phases", ["root"]),
    ("install 30-phases", ["root", "extra-data", "pre-install"]),
    ("post-install 50-after", ["root", "extra-data", "pre-install", "install"]),
    ("cleanup 30-phases", ["root", "extra-data", "pre-install", "install", "post-install", "post-root", "finalise"]),
    ("assemble ", ["root", "extra-data", "install", "cleanup"]),
]


@pytest.mark.parametrize(("moment", "whole"), MOMENTS, ids=[row[0].strip() for row in MOMENTS])
def test_killed_at_any_phase_it_leaves_nothing_and_goes_on(tmp_path: Path, moment: str, whole: list[str]) -> None:
    cache = tmp_path / "c"
    kill_at(moment, cache)
    assert str(tmp_path) not in Path("/proc/self/mountinfo").read_text()
    assert set(whole) <= {layer.phase for layer in LayerStore(cache).list()}
    built = builder.build(definition("greet", "phases"), options(cache))
    assert not built.cached
    assert not list(cache.glob("*/.draft-*"))
    assert not list((cache / "work").iterdir())


def kill_at(moment: str, cache: Path) -> None:
    """Start a build and kill -9 it at a moment; returns when all its processes are gone.

    They are stopped before, so none can come to its own end.
    """
    code = KILLED.format(here=str(Path(__file__).parent), cache=str(cache))
    env = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])}
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, env=env)
    assert process.stdout is not None
    said = []
    for line in process.stdout:
        said.append(line.rstrip("\n"))
        if line.rstrip("\n") == moment:
            break
    else:
        pytest.fail(f"never came to {moment!r}: {said}")
    deadline = time.monotonic() + 120
    while not (started := by_pid(str(cache)).keys() - {process.pid}):
        assert time.monotonic() < deadline
    for pid in started:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGSTOP)
    process.send_signal(signal.SIGKILL)
    process.wait()
    while left := running(str(cache)):
        if time.monotonic() > deadline:
            pytest.fail(f"still running: {left}")
        time.sleep(0.05)


SMALL_STORE = """
set -e
mount -t tmpfs -o size=12m,mode=755 tmpfs "$1"
export BAREMETAL_STATE_DIR="$1/state"
"$2" image add "$3/empty.raw" --name empty
for words in "add $3/random.raw --name random" "export empty $1/large.raw"; do
    echo "rc $("$2" image $words >&2; echo $?)"
done 2>&1
find "$1" -name '.draft*' -o -name large.raw
"$2" image list --columns name --no-header
"""


def test_a_full_store_is_told_with_its_place_and_keeps_what_it_has(tmp_path: Path) -> None:
    (tmp_path / "small").mkdir()
    end = b"\0" * 510 + b"\x55\xaa"
    (tmp_path / "random.raw").write_bytes(end + os.urandom(20 << 20))
    (tmp_path / "empty.raw").write_bytes(end + (b"some text " * 512)[:5120] * 4096)
    program = str(Path(sys.executable).parent / "baremetal")
    inside = ["sh", "-c", SMALL_STORE, "sh", str(tmp_path / "small"), program, str(tmp_path)]
    done = subprocess.run(
        ["unshare", "--mount", "--propagation", "private", *inside], capture_output=True, text=True, check=False
    )
    lines = done.stdout.splitlines()
    assert done.returncode == 0, done.stderr
    assert "this should not happen" not in done.stdout
    assert [line for line in lines if line.startswith("error:")] == [
        f"error: no space left for {tmp_path}/small/state/images",
        f"error: no space left for {tmp_path}/small/large.raw",
    ]
    assert [line.strip() for line in lines if "draft" in line or line.endswith("large.raw")] == [
        f"error: no space left for {tmp_path}/small/large.raw"
    ]
    assert lines[-1].strip() == "empty"


def test_a_mirror_that_is_down_is_named(tmp_path: Path) -> None:
    nowhere = {"DIB_DISTRIBUTION_MIRROR": "http://127.0.0.1:9/debian", "DIB_DEBIAN_SECURITY_MIRROR": ""}
    wanted = Definition("down", ("debian-base",), kind="tree", env=nowhere)
    with pytest.raises(errors.BuildFailed, match=r"debian-base: root\.d/10-mmdebstrap failed") as caught:
        builder.build(wanted, builder.Options(cache=tmp_path / "c"))
    assert "127.0.0.1" in caught.value.detail
    assert "mirror does not answer" in caught.value.detail


def test_a_damaged_base_of_the_disk_is_made_again(tmp_path: Path) -> None:
    first = builder.build(definition("greet"), options(tmp_path / "c"))
    before = first.path.read_bytes()
    base = next((tmp_path / "c/bases").glob("[0-9a-f]*"))
    with open(base / "disk.raw", "r+b") as file:
        file.seek(40 << 20)
        file.write(b"damage")
    first.path.unlink()
    again = builder.build(definition("greet"), options(tmp_path / "c"))
    assert again.path.read_bytes() == before
