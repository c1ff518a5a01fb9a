"""Makes elements/lean-initrd's initial ramdisk: busybox, modules in loading order, one script.

python -m baremetal.images.leanrd TREE --init FILE --epoch N --modules "a b c"
"""

from __future__ import annotations

import argparse
import io
import lzma
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from baremetal.images import cpio, modules
from baremetal.images.errors import BuildFailed


def members(tree: Path, version: str, init: Path, wanted: list[str]) -> Iterator[cpio.Entry]:
    """The archive's content, sorted by name."""
    busybox = tree / "bin/busybox"
    if not busybox.is_file():
        raise BuildFailed("no busybox in the image", fix="add busybox-static to package-installs.yaml")
    found = modules.find(tree, version, wanted, missing_ok=True)
    directory = stat.S_IFDIR | 0o755
    yield cpio.Entry("bin", directory)
    yield cpio.Entry("bin/busybox", stat.S_IFREG | 0o755, busybox)
    yield cpio.Entry("bin/sh", stat.S_IFLNK | 0o777, b"busybox")
    yield from cpio.NODES
    yield cpio.Entry("init", stat.S_IFREG | 0o755, init)
    yield cpio.Entry("modules", directory)
    for path in sorted(found, key=lambda path: path.name):
        yield cpio.Entry(f"modules/{plain_name(path)}", stat.S_IFREG | 0o644, unpacked(path))
    order = "".join(f"{plain_name(path)}\n" for path in found)
    yield cpio.Entry("modules.order", stat.S_IFREG | 0o644, order.encode())


def plain_name(path: Path) -> str:
    return modules.module_name(path.name) + ".ko"


def unpacked(path: Path) -> bytes:
    """A module's bytes; busybox insmod wants them plain."""
    data = path.read_bytes()
    if path.suffix == ".xz":
        return lzma.decompress(data)
    if path.suffix == ".zst":
        return subprocess.run(["zstd", "-dc"], input=data, capture_output=True, check=True).stdout
    return data


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("tree", type=Path)
    parser.add_argument("--init", type=Path, required=True)
    parser.add_argument("--epoch", type=int, default=0)
    parser.add_argument("--modules", default="")
    args = parser.parse_args(argv)
    for version in modules.kernel_versions(args.tree):
        archive = io.BytesIO()
        cpio.write(archive, members(args.tree, version, args.init, args.modules.split()), epoch=args.epoch)
        packed = subprocess.run(
            ["zstd", "-q", "-12", "-c"], input=archive.getvalue(), capture_output=True, check=True
        ).stdout
        (args.tree / f"boot/initrd.img-{version}").write_bytes(packed)
        _link(args.tree, version)
        print(f"initrd for {version}: {len(packed) // 1024} KiB, {len(archive.getvalue()) // 1024} KiB unpacked")
    return 0


def _link(tree: Path, version: str) -> None:
    """/initrd.img and /vmlinuz, as Debian's linux-update-symlinks keeps them."""
    for name in ("initrd.img", "vmlinuz"):
        link = tree / name
        link.unlink(missing_ok=True)
        link.symlink_to(f"boot/{name}-{version}")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
