"""Disks of a machine: blank, sparse, made at first use, shrunk as a fault."""

from __future__ import annotations

import asyncio
import shutil
from dataclasses import dataclass
from pathlib import Path

from baremetal.errors import MachineError
from baremetal.lab import qemu, tools
from baremetal.lab.spec import MachineSpec

SMALL_MIB = 64


@dataclass
class DiskShelf:
    """The disk files of a machine in its directory. `small`: the next power-on finds a tiny one; `gone`: none."""

    spec: MachineSpec
    directory: Path
    small: bool = False
    gone: bool = False

    async def files(self) -> tuple[tuple[Path, str], ...]:
        """(file, format) of each disk; missing ones are made."""
        if self.gone:
            return ()
        mib = round(self.spec.disk_gib * 1024)
        out = [await self._file(f"disk{number}.qcow2", mib) for number in range(self.spec.disks)]
        if self.small and out:
            out[0] = await self._file("disk0-small.qcow2", SMALL_MIB)
        return tuple((file, "qcow2") for file in out)

    async def _file(self, name: str, mib: int) -> Path:
        path = self.directory / name
        if not path.exists():
            part = path.with_suffix(".part")
            await _run("qemu-img", "create", "-q", "-f", "qcow2", str(part), f"{mib}M")
            part.rename(path)
        return path

    def nvram(self) -> None:
        """The machine's own copy of OVMF's variable store."""
        path = self.directory / "vars.fd"
        if self.spec.firmware == "uefi" and not path.exists():
            part = path.with_suffix(".part")
            shutil.copyfile(qemu.OVMF[self.spec.secure_boot][1], part)
            part.rename(path)

    def blank(self) -> None:
        """Throw the disks and the variable store away."""
        for pattern in ("disk*.qcow2", "*.part", "vars.fd"):
            for file in self.directory.glob(pattern):
                file.unlink()


async def _run(program: str, *arguments: str) -> None:
    process = await asyncio.create_subprocess_exec(
        tools.find(program) or program, *arguments, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    output, _ = await process.communicate()
    if process.returncode:
        raise MachineError(
            f"{program} failed with status {process.returncode}",
            detail=output.decode(errors="replace").strip(),
            fix="is the disk of the state directory full? df -h",
        )
