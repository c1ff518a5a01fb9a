"""Real firmware against our servers: SeaBIOS with the ROM of iPXE, OVMF with its own stack, secure boot."""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from baremetal.model.boot import Arch
from baremetal.serve.loaders import read_loaders

pytestmark = pytest.mark.lab
RIG = Path(__file__).with_name("rig.py")


def boot(**ask: Any) -> list[dict[str, Any]]:
    """What was seen until `until`."""
    argv = ["unshare", "--net", "--kill-child", sys.executable, str(RIG), json.dumps({"seconds": 400, **ask})]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=500, check=False)
    seen = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    assert seen, done.stderr
    assert seen[-1]["what"] == ask["until"], seen[-1]
    return seen


def decisions(seen: list[dict[str, Any]]) -> list[str]:
    return once(s["decision"] for s in seen if s["what"] == "boot-seen")


def read(seen: list[dict[str, Any]]) -> list[str]:
    return once(s["name"] for s in seen if s["what"] == "loader-sent")


def once(told: Iterable[str]) -> list[str]:
    """Firmware that waits long for an answer, on a busy machine, asks again: the same twice in a row is one."""
    return [name for name, _ in itertools.groupby(told)]


SCRIPT = "script:http://192.168.90.1:8080/boot/52-54-00-00-00-01.ipxe"


def test_bios_with_ipxe_rom_goes_straight_to_its_script() -> None:
    seen = boot(firmware="bios", purpose="ramdisk", until="script-sent")
    assert decisions(seen) == [SCRIPT]
    assert read(seen) == []


def test_uefi_loads_ipxe_by_tftp_then_its_script() -> None:
    seen = boot(firmware="ovmf", purpose="ramdisk", until="script-sent")
    assert decisions(seen) == ["tftp:snponly.efi", SCRIPT]
    assert read(seen) == ["snponly.efi"]


def test_uefi_http_boot_loads_ipxe_by_url() -> None:
    seen = boot(firmware="ovmf-http", purpose="ramdisk", until="script-sent")
    assert decisions(seen) == ["http://192.168.90.1:8080/loaders/snponly.efi", SCRIPT]
    assert read(seen)[-1] == "snponly.efi"


def test_uefi_leaves_the_network_at_once_when_its_node_boots_from_disk() -> None:
    seen = boot(firmware="ovmf", purpose="disk", until="console:PXE-E21: Remote boot cancelled")
    assert decisions(seen) == ["local-disk"]


def test_secure_boot_comes_through_shim_and_grub_to_the_nodes_script() -> None:
    shim = read_loaders().shim(Arch.UEFI_X64)
    assert shim is not None
    if not Path(shim.path).exists():
        pytest.fail("shim-signed and grub-efi-amd64-signed are not installed: hack/setup test")
    seen = boot(firmware="ovmf", keys=".ms", secure=True, purpose="ramdisk", until="script-sent")
    assert decisions(seen)[0] == "tftp:shimx64.efi"
    assert read(seen) == ["shimx64.efi", "grubx64.efi", "grub/grub.cfg"]


def test_secure_boot_refuses_an_unsigned_loader() -> None:
    boot(firmware="ovmf", keys=".ms", purpose="ramdisk", until="console:Access Denied")


@pytest.fixture(scope="module")
def signed_kernel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Debian's kernel for virtual machines, signed by Debian, from its package; nothing is installed."""
    scratch = tmp_path_factory.mktemp("kernel")
    depends = subprocess.run(
        ["apt-cache", "depends", "linux-image-cloud-amd64"], capture_output=True, text=True, check=True
    )
    package = next(line.split()[-1] for line in depends.stdout.splitlines() if "Depends: linux-image-" in line)
    subprocess.run(["apt-get", "download", package], cwd=scratch, check=True, capture_output=True)
    subprocess.run(["dpkg", "-x", str(next(scratch.glob("*.deb"))), str(scratch)], check=True)
    (scratch / "initrd").write_bytes(b"070701" + b"0" * 104)  # the kernel gets as far as wanting an init
    return next((scratch / "boot").glob("vmlinuz-*"))


def secure(kernel: Path, until: str) -> list[dict[str, Any]]:
    files = {"kernel": str(kernel), "initrd": str(kernel.parent.parent / "initrd")}
    return boot(firmware="ovmf", keys=".ms", secure=True, purpose="ramdisk", until=until, **files)


@pytest.mark.slow
def test_secure_boot_ends_in_debians_signed_kernel_locked_down(signed_kernel: Path) -> None:
    seen = secure(signed_kernel, "console:Kernel is locked down from EFI Secure Boot")
    assert "script-sent" in [s["what"] for s in seen]
    assert [s["name"] for s in seen if s["what"] == "artifact-sent"] == ["artifacts/kernel", "artifacts/initrd"]


@pytest.mark.slow
def test_secure_boot_refuses_a_kernel_that_was_changed(signed_kernel: Path) -> None:
    raw = bytearray(signed_kernel.read_bytes())
    raw[len(raw) // 2] ^= 1
    changed = signed_kernel.with_name("changed")
    changed.write_bytes(raw)
    secure(changed, "console:bad shim signature")
