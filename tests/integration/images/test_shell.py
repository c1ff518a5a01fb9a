"""`--shell-on-failure`: a shell where the build stopped, typed at through a pseudo terminal."""

from __future__ import annotations

import os
import pty
import select
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytestmark = pytest.mark.integration
ELEMENTS = Path(__file__).parents[2] / "data/images/elements"
BAREMETAL = str(Path(sys.executable).parent / "baremetal")


def converse(command: list[str], env: dict[str, str], script: list[tuple[str, str]]) -> tuple[str, int]:
    """Run on a terminal of its own: wait for each text in turn, type the answer. What was shown, the exit code."""
    pid, terminal = pty.fork()
    if pid == 0:
        os.execvpe(command[0], command, env)
    shown, seen, todo = "", 0, list(script)
    deadline = time.monotonic() + 400
    while time.monotonic() < deadline:
        if not select.select([terminal], [], [], 1)[0]:
            continue
        try:
            data = os.read(terminal, 4096)
        except OSError:
            break  # the other side is gone
        shown += data.decode(errors="replace")
        if todo and todo[0][0] in shown[seen:]:
            seen = len(shown)
            os.write(terminal, todo.pop(0)[1].encode())
    else:
        os.kill(pid, signal.SIGKILL)
    return shown, os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def test_a_shell_where_it_failed_and_then_the_error(tmp_path: Path) -> None:
    command = [BAREMETAL, "image", "build", "-n", "-t", "tar", "-o", str(tmp_path / "x"), "--offline"]
    command += [
        "--cache-dir",
        str(tmp_path / "c"),
        "-E",
        str(ELEMENTS),
        "--shell-on-failure",
        "host-os",
        "greet",
        "boom",
    ]
    env = {**os.environ, "TERM": "dumb", "PS1": "look> "}
    typed = "cat /etc/greeting; echo tree-$((40 + 2)); exit\n"
    shown, code = converse(command, env, [("shell at phase install", typed)])
    assert "tree-42" in shown, shown
    assert "hello" in shown
    assert "install.d/60-boom failed" in shown
    assert code != 0


def test_a_shell_before_and_after_a_phase_as_with_disk_image_create(tmp_path: Path) -> None:
    command = [BAREMETAL, "image", "build", "-n", "-t", "tar", "-o", str(tmp_path / "x"), "--offline"]
    command += ["--cache-dir", str(tmp_path / "c"), "-E", str(ELEMENTS), "host-os", "greet"]
    env = {**os.environ, "TERM": "dumb", "PS1": "look> ", "break": "before-install,after-install"}
    look = "[ -e /etc/greeting ] && echo there-$((1 + 1)) || echo not-$((1 + 1)); exit\n"
    shown, code = converse(command, env, [("shell at phase install", look), ("shell at phase install", look)])
    assert code == 0, shown
    assert shown.index("not-2") < shown.index("there-2")


def test_without_a_terminal_the_error_is_told_all_the_same(tmp_path: Path) -> None:
    command = [BAREMETAL, "image", "build", "-n", "-t", "tar", "-o", str(tmp_path / "x"), "--offline", "--no-add"]
    command += ["--cache-dir", str(tmp_path / "c"), "-E", str(ELEMENTS), "--shell-on-failure", "host-os", "boom"]
    done = subprocess.run(
        command, stdin=subprocess.DEVNULL, start_new_session=True, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert "install.d/60-boom failed" in done.stderr
    assert "no shell is opened: there is no terminal" in done.stderr
    assert done.stderr.count("--shell-on-failure") == 1
