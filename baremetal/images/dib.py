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

# disk-image-create's option -> ours of a classic call.
WITH_A_VALUE = {
    "--image-size": "image_size",
    "--root-label": "root_label",
    "--install-type": "install_type",
    "--qemu-img-options": "qemu_img_options",
    "--mkfs-options": "mkfs_options",
    "--max-online-resize": "max_online_resize",
}
# Options it describes and whose parser knows none of them (3.43): by the variables they would set.
BY_VARIABLE = {"DIB_IMAGE_EXTRA_SIZE": "extra_size", "DIB_JOURNAL_SIZE": "journal_mib"}


def command(elements: Sequence[str], call: Mapping[str, Any]) -> list[str]:
    """The arguments of disk-image-create for a classic call."""
    words = ["-a", call["arch"], "-o", call["output"] or "image", "-t", call["types"] or "qcow2"]
    words += ["-x"] * int(call["trace"])
    for flag, name in (("-n", "no_base"), ("-u", "uncompressed")):
        words += [flag] if call[name] else []
    if call["packages"]:
        words += ["-p", ",".join(call["packages"])]
    for flag, name in WITH_A_VALUE.items():
        words += [flag, call[name]] if call[name] else []
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
        env |= {variable: call[name] for variable, name in BY_VARIABLE.items() if call[name]}
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
