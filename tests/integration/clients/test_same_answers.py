"""The same requests to Ironic 39 and to us: what differs is in baremetal/api/ironic/differences.py, or is a bug."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
RECORDED = ROOT / "tests/data/ironic/answers.json"  # Ironic 39.0.0, fake-hardware, by hack/ironic-dialogue record


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextlib.contextmanager
def running(words: list[str | Path], port: int) -> Iterator[str]:
    """A fresh server of that command line."""
    child = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
    url = f"http://127.0.0.1:{port}"
    try:
        for _ in range(600):
            with contextlib.suppress(OSError):
                urllib.request.urlopen(url, timeout=5).close()
                break
            assert child.poll() is None, f"{words[0]} ended"
            time.sleep(0.1)
        yield url
    finally:
        child.terminate()
        child.wait()


def compared(answers: Path) -> subprocess.CompletedProcess[str]:
    port = free_port()
    with running([ROOT / "hack/api-fixture", str(port)], port) as url:
        words = [ROOT / "hack/ironic-dialogue", "compare", answers, url]
        return subprocess.run(words, capture_output=True, text=True, check=False)


@pytest.mark.integration
def test_answers_are_those_that_ironic_gave() -> None:
    done = compared(RECORDED)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.peers
def test_answers_are_those_that_ironic_gives(tmp_path: Path) -> None:
    """Real Ironic from PyPI; BAREMETAL_IRONIC_VENV names an environment that has it, else one is made."""
    venv = Path(os.environ.get("BAREMETAL_IRONIC_VENV") or tmp_path / "ironic")
    if not (venv / "bin/ironic").exists():
        subprocess.run([sys.executable, "-m", "venv", venv], check=True)
        subprocess.run([venv / "bin/pip", "install", "-q", "ironic"], check=True)
    port = free_port()
    text = (ROOT / "hack/bench/api").read_text().split('IRONIC = """', 1)[1].split('"""', 1)[0]
    for name in ("st", "log"):
        (tmp_path / name).mkdir()
    config = tmp_path / "ironic.conf"
    config.write_text(text.format(dir=tmp_path, port=port).replace("fast_track = True", "fast_track = False"))
    subprocess.run(
        [venv / "bin/ironic-dbsync", "--config-file", config, "create_schema"], check=True, capture_output=True
    )
    answers = tmp_path / "answers.json"
    with running([venv / "bin/ironic", "--config-file", config], port) as url:
        time.sleep(3)  # its conductor registers a moment after its API answers
        words = [ROOT / "hack/ironic-dialogue", "record", url]
        answers.write_text(subprocess.run(words, capture_output=True, text=True, check=True).stdout)
    done = compared(answers)
    assert done.returncode == 0, done.stdout + done.stderr
