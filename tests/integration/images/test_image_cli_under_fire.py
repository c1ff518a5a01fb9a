"""`baremetal image build` as a hostile or unlucky operator calls it: one clear error, nothing left running or mounted.

From outside, through the command line. No network; the operating system is this
machine's shell and its libraries. Needs root.
"""

from __future__ import annotations

import json
import os
import pty
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from processes import running

pytestmark = pytest.mark.integration
ELEMENTS = Path(__file__).parents[2] / "data/images/elements"
BAREMETAL = Path(sys.executable).parent / "baremetal"


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One cache for all, and a directory of hostile elements."""
    return tmp_path_factory.mktemp("fire")


def hostile(place: Path, name: str, script: str, text: str) -> str:
    path = place / "elements" / name / script
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/bash\nset -eu\n{text}\n")
    path.chmod(0o755)
    return name


def command(place: Path, *words: str) -> list[str]:
    fixed = ["--offline", "--no-add", "-n", "--cache-dir", str(place / "cache"), "-o", str(place / "out")]
    return [str(BAREMETAL), "image", "build", *fixed, "host-os", *words]


def environment(place: Path) -> dict[str, str]:
    path = f"{ELEMENTS}:{place / 'elements'}"
    return {**os.environ, "ELEMENTS_PATH": path, "BAREMETAL_STATE_DIR": str(place / "state"), "TERM": "dumb"}


def build(place: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(place, *words),
        env=environment(place),
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
        timeout=120,
    )


def nothing_left(place: Path) -> bool:
    """No mount, no process, no scratch directory of this cache."""
    mounts = [line for line in Path("/proc/self/mountinfo").read_text().splitlines() if str(place) in line]
    work = place / "cache/work"
    return not mounts and not running(str(place)) and not (work.is_dir() and list(work.iterdir()))


FAILS = [  # element, script, what it does, exit code, what is said
    ("fails", "install.d/60-fails", "echo the reason; false", r"60-fails failed \(exit 1\)\n +\| the reason"),
    ("dies", "post-install.d/60-dies", "echo so long; kill -9 $$", r"post-install\.d/60-dies failed[^|]*\| so long"),
    ("outside", "extra-data.d/60-out", "echo x > /var/lib/outside", r"extra-data\.d/60-out failed(.|\n)*Read-only"),
    ("at-end", "cleanup.d/60-end", "echo late >&2; exit 7", r"at-end: cleanup\.d/60-end failed \(exit 7\)\n +\| late"),
    ("no-interpreter", "install.d/60-none", "", r"no-interpreter: install\.d/60-none failed"),
    ("kills-all", "install.d/60-all", "kill -9 -1", r"kills-all: install\.d/60-all failed"),
    ("murmurs", "install.d/60-murmurs", "printf 'no line ends'; false", r"murmurs: [^|]*\| no line ends\n"),
    ("paints", "install.d/60-paints", r"printf '\033[2Jcleared\007\n'; false", r"paints: (.|\n)*\| \?\[2Jcleared\?"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "script", "text", "said"), FAILS, ids=[row[0] for row in FAILS])
def test_a_script_that_goes_wrong_is_named_with_its_last_words(
    place: Path, name: str, script: str, text: str, said: str
) -> None:
    hostile(place, name, script, text)
    if name == "no-interpreter":
        (place / "elements" / name / script).write_text("#!/no/such/interpreter\n")
    done = build(place, name)
    assert done.returncode == 1
    assert re.search(said, done.stderr), done.stderr
    assert f"error: {name}: " in done.stderr
    assert f"{name} --shell-on-failure" in done.stderr  # the very command, with a shell
    assert "\033" not in done.stderr
    assert nothing_left(place)


def test_a_script_that_hangs_is_ended(place: Path) -> None:
    hostile(place, "hangs", "install.d/60-hangs", "echo waiting; sleep 7331")
    assert build(place, "--until", "extra-data", "hangs").returncode == 0
    done = build(place, "--timeout", "4", "hangs")
    assert "hangs: install.d/60-hangs gave no end within 4 s" in done.stderr
    assert not running("sleep 7331")
    assert nothing_left(place)


@pytest.mark.parametrize("script", ["install.d/60-leaves", "extra-data.d/60-leaves"])
def test_a_process_left_behind_is_ended_and_told(place: Path, script: str) -> None:
    hostile(place, f"leaves-{script[0]}", script, "sleep 7332 > /dev/null 2>&1 & sleep 0.3")
    done = build(place, f"leaves-{script[0]}")
    assert done.returncode == 0
    assert "a script left a process running, it was ended: sleep 7332" in done.stderr
    assert not running("sleep 7332")


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_however_it_is_stopped_it_leaves_nothing_and_goes_on(place: Path, how: signal.Signals) -> None:
    marker = place / f"elements/stops-{how.name}/install.d/60-stops"
    hostile(place, f"stops-{how.name}", "install.d/60-stops", "echo begun; sleep 7333")
    # A test run in the background may have been told to ignore Ctrl-C.
    words = ["env", "--default-signal=INT", *command(place, f"stops-{how.name}")]
    process = subprocess.Popen(words, env=environment(place), stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 60
    while not running("sleep 7333") and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(how)
    said = process.communicate(timeout=30)[1]
    while running("sleep 7333") and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not running("sleep 7333")
    if how is not signal.SIGKILL:
        assert process.returncode == 130
        assert "the same command goes on from the last whole layer" in said
        assert nothing_left(place)
    marker.write_text("#!/bin/bash\necho fine\n")
    done = build(place, f"stops-{how.name}")
    assert done.returncode == 0
    assert "out: root" not in done.stderr
    assert nothing_left(place)


def test_two_builds_at_once_make_it_once(place: Path) -> None:
    hostile(place, "takes-a-while", "install.d/60-while", "sleep 3")
    build(place, "--until", "extra-data", "takes-a-while")
    both = [
        subprocess.Popen(command(place, "takes-a-while"), env=environment(place), stderr=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    said = [process.communicate(timeout=120)[1] for process in both]
    assert [process.returncode for process in both] == [0, 0]
    assert sum("nothing changed" in text for text in said) == 1
    assert any("wait for the other build" in text for text in said)


def test_a_damaged_layer_is_told_and_made_again(place: Path) -> None:
    assert build(place, "greet").returncode == 0
    layer = next(path for path in (place / "cache/layers").glob("*/tree/etc/greeting"))
    layer.write_text("something else, and longer\n")
    for old in (place / "cache/images").glob("*/out.qcow2"):
        old.unlink()
    done = build(place, "greet")
    assert done.returncode == 0
    assert "was damaged; built again" in done.stderr


def cache_command(place: Path, *words: str) -> subprocess.CompletedProcess[str]:
    command = [str(BAREMETAL), "image", "cache", *words, "--cache-dir", str(place / "cache")]
    return subprocess.run(command, env=environment(place), capture_output=True, text=True, check=False)


def test_what_rots_in_silence_is_found_by_reading_all_and_made_again(place: Path) -> None:
    cache_command(place, "verify")  # a test before this one removes images' files
    assert build(place, "greet").returncode == 0
    whole = (place / "out.qcow2").read_bytes()
    first = cache_command(place, "verify")
    assert first.returncode == 0, first.stdout
    image = max((place / "cache/images").glob("*/out.qcow2"), key=lambda path: path.stat().st_mtime)
    layer = next(path for path in (place / "cache/layers").glob("*/tree/etc/greeting"))
    base = next((place / "cache/bases").glob("*/disk.raw"))
    for path, at in ((image, 8 << 10), (layer, 0), (base, 40 << 20)):
        before = path.stat()
        with open(path, "r+b") as file:
            file.seek(at)
            file.write(b"!")
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    done = cache_command(place, "verify", "--json")
    assert done.returncode == 1
    assert {one["kind"] for one in json.loads(done.stdout)["damaged"]} == {"image", "layer", "base"}
    assert build(place, "greet").returncode == 0
    assert (place / "out.qcow2").read_bytes() == whole
    assert "all is as it was kept" in cache_command(place, "verify").stderr


REFUSED = [  # words, what is said
    (["../host-os"], "bad element name '../host-os'"),
    (["$(reboot)"], "bad element name '$(reboot)'"),
    (["host os"], "bad element name 'host os'"),
    (["no-such-element"], "element 'no-such-element' not found"),
    (["greet", "-o", ".."], "-o ..: no name for an image"),
    (["greet", "-t", "evil"], "unknown format 'evil'"),
    (["greet", "-t", "vhd"], "add --engine dib"),
    (["greet", "-a", "sparc"], "images for sparc are not made here"),
    (["greet", "--image-size", "0.03"], "--image-size takes GB"),
    (["greet", "--image-size", "1e30"], "up to 8192 GB"),
    (["greet", "--image-size", "-1"], "--image-size '-1' is not a size"),
    (["greet", "--image-size", "big"], "not a number of GB"),
    (["greet", "--until", "never"], "no phase 'never'"),
    (["greet", "-o", "/no/such/place/x"], "mkdir -p /no/such/place"),
    (["greet", "--mkfs-options", "-O x"], "--engine dib does it; here: -m -i -J -O -E"),
]


@pytest.mark.parametrize(("words", "said"), REFUSED, ids=[" ".join(row[0]) for row in REFUSED])
def test_what_cannot_be_is_refused_with_what_to_do(place: Path, words: list[str], said: str) -> None:
    done = build(place, *words)
    assert done.returncode in (2, 3), done.stderr
    assert said in done.stderr
    assert "Traceback" not in done.stderr
    assert nothing_left(place)


def test_a_shell_opens_where_it_failed(place: Path) -> None:
    hostile(place, "has-a-bug", "install.d/60-bug", "echo evidence > /etc/evidence; false")
    process, terminal = pty.fork()
    if process == 0:
        os.execve(BAREMETAL, command(place, "--shell-on-failure", "has-a-bug"), environment(place))
    said = b""
    asked = False
    while True:
        try:
            data = os.read(terminal, 4096)
        except OSError:
            break
        if not data:
            break
        said += data
        if b"shell at phase install" in said and not asked:
            os.write(terminal, b"cat /etc/evidence\nexit\n")
            asked = True
    _, status = os.waitpid(process, 0)
    assert os.waitstatus_to_exitcode(status) == 1
    assert said.count(b"evidence") >= 2
    assert b"has-a-bug: install.d/60-bug failed" in said
    assert nothing_left(place)


@pytest.mark.parametrize(("asked", "kinds"), [("1", {"md5", "sha256"}), ("sha256", {"sha256"}), ("0", set())])
def test_digests_are_asked_for_by_variable_too(
    place: Path, monkeypatch: pytest.MonkeyPatch, asked: str, kinds: set[str]
) -> None:
    monkeypatch.setenv("DIB_CHECKSUM", asked)
    for old in place.glob("summed.*"):
        old.unlink()
    assert build(place, "greet", "-o", str(place / "summed")).returncode == 0
    assert {path.suffix[1:] for path in place.glob("summed.*.*")} == kinds
