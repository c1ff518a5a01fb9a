"""KVM or TCG: KVM only where a guest really runs under it.

Nested and paravirtual hosts offer a /dev/kvm that opens, makes machines, and
then spins or dies in real mode; so a firmware is booted once to find out.
"""

from __future__ import annotations

import fcntl
import os
import subprocess
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from baremetal.lab import tools

_KVM_CREATE_VM = 0xAE01
_PROBE_S = 6.0
#: What iPXE prints once it has left real mode and initialised.
_PROOF = b"Features:"
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


@dataclass(frozen=True)
class Accel:
    """How QEMU runs guests. qemu64 is the fastest CPU model under TCG: fewer features, less code to translate."""

    name: str
    because: str

    @property
    def arguments(self) -> list[str]:
        """For QEMU's command line."""
        if self.name == "kvm":
            return ["-accel", "kvm", "-cpu", "host"]
        return ["-accel", "tcg,thread=multi,tb-size=256", "-cpu", "qemu64"]


def choose(cache: Path | None = None) -> Accel:
    """The accelerator of this machine. `cache` is a file that keeps the answer until the next reboot."""
    boot = _BOOT_ID.read_text().strip()
    if cache is not None and cache.exists():
        kept, _, rest = cache.read_text().partition(" ")
        name, _, because = rest.partition(" ")
        if kept == boot and name in ("kvm", "tcg"):
            return Accel(name, because)
    accel = _probe()
    if cache is not None:
        cache.write_text(f"{boot} {accel.name} {accel.because}")
    return accel


def _probe() -> Accel:
    try:
        fd = os.open("/dev/kvm", os.O_RDWR)
    except OSError as exc:
        return Accel("tcg", f"/dev/kvm: {exc.strerror}")
    try:
        os.close(fcntl.ioctl(fd, _KVM_CREATE_VM, 0))
    except OSError as exc:
        return Accel("tcg", f"KVM makes no machine: {exc.strerror}")
    finally:
        os.close(fd)
    if _boots_under_kvm():
        return Accel("kvm", "a firmware boots under it")
    return Accel("tcg", "/dev/kvm opens, but no firmware boots under it")


def _boots_under_kvm() -> bool:
    program = tools.find("qemu-system-x86_64")
    if program is None:
        return False
    with tempfile.TemporaryDirectory() as scratch:
        log = Path(scratch, "serial")
        argv = [program, *Accel("kvm", "").arguments, "-machine", "q35,graphics=off", "-m", "128", "-nodefaults"]
        argv += [
            "-display",
            "none",
            "-vga",
            "none",
            "-serial",
            f"file:{log}",
            "-net",
            "none",
            "-device",
            "virtio-net-pci",
        ]
        process = subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            until = time.monotonic() + _PROBE_S
            while time.monotonic() < until and process.poll() is None:
                if log.exists() and _PROOF in log.read_bytes():
                    return True
                time.sleep(0.1)
            return False
        finally:
            process.kill()
            process.wait()
