"""On the walked rack: a person gets into a deployed node and leaves it as it was; a node runs from memory alone.

Runs after test_walking_rack.py (files go by name) and leaves both nodes as they were.
"""

from __future__ import annotations

import contextlib
import json
import re
import socket
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from conftest import Walked

pytestmark = [pytest.mark.lab, pytest.mark.slow, pytest.mark.timeout(1800)]


def console(walked: Walked, node: str, dialogue: list[tuple[str, str]], last: str) -> str:
    """Answer each text that the serial line of a machine says, until it says `last`; what it said meanwhile.

    An empty text is said at once. Gives up after 90 s of silence.
    """
    said = b""
    with socket.socket(socket.AF_UNIX) as line:
        line.connect(str(walked.lab_dir / "nodes" / node / "console.sock"))
        line.settimeout(1)
        at = 0
        for wanted, answer in [*dialogue, (last, "")]:
            deadline = time.monotonic() + 90
            while said.find(wanted.encode(), at) < 0 and time.monotonic() < deadline:
                with contextlib.suppress(TimeoutError):
                    said += line.recv(65536)
            found = said.find(wanted.encode(), at)
            if found < 0:
                break
            at = found + len(wanted)
            time.sleep(1)  # a getty drops what comes before it has set the line up
            line.sendall(answer.encode())
    return said.decode(errors="replace")


def test_rescue_lets_in_by_a_one_time_password_and_unrescue_leads_back(walked: Walked) -> None:
    done = walked.cli("node", "rescue", "node-1", "--wait", timeout_s=600)
    assert done.returncode == 0, done.stderr
    found = re.search(r"one-time password of root: (\S+)", done.stderr + done.stdout)
    assert found, done.stderr
    assert walked.node("node-1")["state"] == "rescue"
    typed = [("", "\n"), ("login:", "root\n"), ("Password:", f"{found[1]}\n"), (" # ", "echo IN-$((40+2))\n")]
    said = console(walked, "node-1", typed, "IN-42")
    assert "IN-42" in said, said
    walked.ok("node", "unrescue", "node-1", "--wait", timeout_s=600)
    assert walked.node("node-1")["state"] == "active"
    log = json.loads(walked.ok("events", "--node", "node-1", "--json", "--limit", "5000"))
    assert found[1] not in json.dumps(log)


def test_a_node_runs_from_memory(walked: Walked, tmp_path: Path) -> None:
    """The deploy ramdisk as a system of its own: without a server's address it opens the shell that its line allows."""
    pair = next(p for p in sorted((walked.lab_dir / "site" / "images").glob("*/initrd"))).parent
    initrd = tmp_path / "initrd"  # other bytes than the deploy ramdisk's: the store knows images by their content
    initrd.write_bytes((pair / "initrd").read_bytes() + bytes(4))
    walked.ok(
        "image", "add-ramdisk", str(pair / "kernel"), str(initrd), "--name", "memory",
        "--cmdline", "console=ttyS0,115200 no_timer_check baremetal.shell=1",
    )  # fmt: skip
    walked.ok("node", "undeploy", "node-0", "--wait", timeout_s=900)
    time.sleep(5)  # the server looks at its image store every few seconds
    walked.ok("node", "deploy", "node-0", "--image", "memory", "--wait", timeout_s=600)
    assert walked.node("node-0")["state"] == "active"
    said = console(walked, "node-0", [("", "\n"), (" # ", "echo MEM-$((40+2))\n")], "MEM-42")
    assert "MEM-42" in said, said
    walked.ok("node", "undeploy", "node-0", "--wait", timeout_s=900)
    assert walked.node("node-0")["state"] == "available"
