"""Kernel modules and what they need, from a kernel's own modules.dep: no kmod, no root."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path, PurePosixPath

from baremetal.images.errors import BuildFailed

SUFFIXES = (".ko", ".ko.xz", ".ko.zst", ".ko.gz")


def module_name(path: str) -> str:
    """virtio_blk, for kernel/drivers/block/virtio_blk.ko or virtio-blk."""
    name = PurePosixPath(path).name
    for suffix in sorted(SUFFIXES, key=len, reverse=True):
        name = name.removesuffix(suffix)
    return name.replace("-", "_")


def dependencies(modules_dep: str) -> dict[str, tuple[str, list[str]]]:
    """name -> (path, names it needs) from the text of modules.dep."""
    found = {}
    for line in modules_dep.splitlines():
        path, _, rest = line.partition(":")
        if path:
            found[module_name(path)] = (path.strip(), [module_name(word) for word in rest.split()])
    return found


def closure(
    wanted: Iterable[str], table: Mapping[str, tuple[str, list[str]]], built_in: Iterable[str] = ()
) -> list[str]:
    """Names in an order they can be loaded; built-in ones are left out, unknown ones are an error."""
    inside = {module_name(name) for name in built_in}
    order: list[str] = []

    def add(name: str, chain: tuple[str, ...]) -> None:
        if name in order or name in inside or name in chain:
            return
        if name not in table:
            raise BuildFailed(f"kernel has no module {name}", detail=f"wanted by: {' > '.join(chain) or 'the element'}")
        for needed in reversed(table[name][1]):
            add(needed, (*chain, name))
        order.append(name)

    for name in wanted:
        add(module_name(name), ())
    return order


def kernel_versions(tree: Path) -> list[str]:
    """Kernels installed in a tree, oldest first."""
    boot = tree / "boot"
    return sorted(path.name.removeprefix("vmlinuz-") for path in boot.glob("vmlinuz-*"))


def find(tree: Path, version: str, wanted: Iterable[str], *, missing_ok: bool = False) -> list[Path]:
    """Module files of one kernel for the wanted names and their needs, in loading order.

    `missing_ok` skips wanted modules this kernel does not have (the cloud kernel lacks most drivers).
    """
    base = tree / "lib/modules" / version
    if not (base / "modules.dep").exists():
        raise BuildFailed(f"kernel {version}: no modules.dep", fix="install kmod in the image, so that depmod runs")
    table = dependencies((base / "modules.dep").read_text())
    built_in = (base / "modules.builtin").read_text().split() if (base / "modules.builtin").exists() else []
    names = [module_name(name) for name in wanted]
    inside = {module_name(name) for name in built_in}
    if missing_ok:
        names = [name for name in names if name in table or name in inside]
    return [base / table[name][0] for name in closure(names, table, built_in)]
