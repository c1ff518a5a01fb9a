"""The agents answer to their verbs and to the names of the originals."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest


def agent(*arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
    argv = [sys.executable, "-m", "baremetal", "agent", *arguments]
    return subprocess.run(argv, capture_output=True, text=True, env={"PATH": "/usr/bin:/bin", **env}, check=False)


@pytest.mark.parametrize("name", ["apply", "os-apply-config", "os-config-applier"])
def test_one_key_by_each_name(name: str, tmp_path: Path) -> None:
    document = tmp_path / "one.json"
    document.write_text(json.dumps({"hostname": "web1"}))
    done = agent(name, "--metadata", str(document), "--key", "hostname", "--type", "raw")
    assert (done.returncode, done.stdout, done.stderr) == (0, "web1\n", "")


def test_another_name_is_refused_with_the_verbs_there_are() -> None:
    done = agent("os-reboot-config")
    assert done.returncode == 2
    assert "unknown verb 'os-reboot-config'" in done.stderr
    assert "os-refresh-config" in done.stderr
