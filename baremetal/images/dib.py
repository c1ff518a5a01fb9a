"""The original disk-image-create as a subprocess: for what we do not do, and as oracle in tests."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from baremetal.images import mirror
from baremetal.images.environment import SUDO
from baremetal.images.errors import ToolMissing


def command(elements: Sequence[str], call: Mapping[str, Any]) -> list[str]:
    """The arguments of disk-image-create for a classic call."""
    words = ["-a", call["arch"], "-o", call["output"] or "image", "-t", call["types"] or "qcow2"]
    words += ["-x"] * int(call["trace"])
    for flag, name in (("-n", "no_base"), ("-u", "uncompressed")):
        words += [flag] if call[name] else []
    if call["packages"]:
        words += ["-p", ",".join(call["packages"])]
    for flag, name in (("--image-size", "image_size"), ("--root-label", "root_label")):
        words += [flag, call[name]] if call[name] else []
    if call["install_type"]:
        words += ["--install-type", call["install_type"]]
    if call["qemu_img_options"]:
        words += ["--qemu-img-options", call["qemu_img_options"]]
    words += ["--checksum"] if call["checksum"] else []
    words += call["original"]
    return [*words, *elements]


def run(elements: Sequence[str], call: Mapping[str, Any], elements_path: Sequence[Path]) -> int:
    """Run it in a mount namespace of its own, so that what it forgets to unmount goes with it; its exit code."""
    program = shutil.which("disk-image-create") or str(Path(sys.executable).parent / "disk-image-create")
    if not Path(program).exists():
        raise ToolMissing("disk-image-create not found", fix="pip install diskimage-builder")
    with tempfile.TemporaryDirectory(prefix="baremetal-dib-") as scratch:
        machine = mirror.from_machine(os.environ, os.environ.get("DIB_RELEASE", "bookworm"))
        env = {**machine.environment(), **os.environ, "PYTHONHASHSEED": "0", "DIB_PYTHON_VERSION": "3"}
        if os.geteuid() == 0 and not shutil.which("sudo"):
            sudo = Path(scratch, "sudo")
            sudo.write_text(SUDO)
            sudo.chmod(0o755)
            env["PATH"] = f"{scratch}:{env['PATH']}"
        path = [str(p) for p in elements_path] + [p for p in env.get("ELEMENTS_PATH", "").split(":") if p]
        if path:
            env["ELEMENTS_PATH"] = ":".join(path)
        namespace = ["unshare", "--mount", "--propagation", "private", "--"] if os.geteuid() == 0 else []
        return subprocess.run([*namespace, program, *command(elements, call)], env=env, check=False).returncode
