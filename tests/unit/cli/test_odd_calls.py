"""What a tired person types, and where output goes that nobody can read: an error in words, never an accident."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from baremetal.errors import EXIT_MACHINE, EXIT_NOT_FOUND, EXIT_OK, EXIT_USAGE
from baremetal.model.treesize import ENDLESS, MOST, too_large, written_out

BAREMETAL = str(Path(sys.executable).with_name("baremetal"))
BOMB = "a: &a [x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"{chr(98 + n)}: &{chr(98 + n)} [{','.join(['*' + chr(97 + n)] * 9)}]\n" for n in range(9)
)
FILES = {
    "bomb.yaml": BOMB.encode(),
    "self.yaml": b"a: &a [*a]\n",
    "deep.yaml": b"[" * 100_000,
    "five.json": b'{"nodes": 5}',
    "chassis.json": b'{"chassis": [{"nodes": 5}]}',
    "nothing.json": b" \n",
}
ODD = [  # words, exit code, what is said
    ("--server http://[::1 node list", EXIT_USAGE, "Invalid IPv6 URL"),
    ("node show ''", EXIT_USAGE, "a name is empty"),
    ("node show ../../etc/passwd", EXIT_NOT_FOUND, "no node '../../etc/passwd'"),
    ("node import five.json", EXIT_USAGE, "no list of machines"),
    ("node import chassis.json", EXIT_USAGE, "no list of machines"),
    ("node import nothing.json", EXIT_USAGE, "it is empty"),
    ("node import bomb.yaml", EXIT_USAGE, "its aliases, written out, make"),
    ("node clean n1 --steps bomb.yaml", EXIT_USAGE, "its aliases, written out, make"),
    ("node clean n1 --steps self.yaml", EXIT_USAGE, "an alias contains itself"),
    ("node clean n1 --steps deep.yaml", EXIT_USAGE, "nested too deep"),
    ("node clean n1 --steps /dev/zero", EXIT_USAGE, "longer than 16 MiB"),
    ("node clean n1 --steps .", EXIT_USAGE, "cannot read ."),
    ("metadata set n1 a..b=c", EXIT_USAGE, "a part of its key is empty"),
    ("diagnose -i lo --seconds -5", EXIT_USAGE, "--seconds"),
    ("diagnose -i lo --save nowhere/x", EXIT_USAGE, "nowhere/x"),
    ("settings > /dev/full", EXIT_MACHINE, "no space left for the output"),
    ("--help > /dev/full", EXIT_MACHINE, "no space left for the output"),
    ("settings >&-", EXIT_OK, ""),
    ("settings <&- | head -c 1", EXIT_OK, ""),
    ("bmc power status 2>&-", EXIT_USAGE, ""),
]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("odd")
    for name, raw in FILES.items():
        (made / name).write_bytes(raw)
    return made


@pytest.mark.parametrize(("words", "code", "said"), ODD, ids=[row[0] for row in ODD])
def test_odd_calls(place: Path, words: str, code: int, said: str) -> None:
    env = {**os.environ, "BAREMETAL_SERVER": "http://127.0.0.1:1", "HOME": str(place), "XDG_STATE_HOME": str(place)}
    done = subprocess.run(
        ["bash", "-c", f"{BAREMETAL} {words}"], cwd=place, env=env, capture_output=True, text=True, check=False
    )
    assert (done.returncode, said in done.stderr) == (code, True), done.stderr
    assert "should not happen" not in done.stderr
    assert "Traceback" not in done.stderr
    assert "Exception ignored" not in done.stderr


def test_documents_are_measured_as_they_would_be_written_out() -> None:
    shared = {"k": [1, 2]}
    assert written_out("text") == 1
    assert written_out({"a": shared, "b": [shared, shared]}) == 1 + 4 + 1 + 4 + 4
    endless: list[object] = []
    endless.append([endless])
    assert written_out(endless) == ENDLESS
    wide: object = 1
    for _ in range(30):
        wide = [wide, wide]
    assert str((1 << 31) - 1) in too_large(wide)
    assert too_large([0] * (MOST - 1)) == ""
