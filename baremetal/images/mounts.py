"""Mount calls of the private build namespace, without the mount program.

Imported by stage.py inside the namespace: standard library only.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
from pathlib import Path

MS_RDONLY, MS_NOSUID, MS_NODEV, MS_NOEXEC, MS_REMOUNT = 1, 2, 4, 8, 32
MS_BIND, MS_REC = 4096, 16384
_FLAGS = {"nosuid": 2, "nodev": 4, "noexec": 8, "noatime": 1024, "nodiratime": 2048, "relatime": 1 << 21}
_libc = ctypes.CDLL(None, use_errno=True)


def mount(source: str, target: str | Path, fstype: str = "", flags: int = 0, data: str = "") -> None:
    """mount(2); OSError names the target."""
    args = (source.encode(), os.fsencode(target), fstype.encode() or None, ctypes.c_ulong(flags), data.encode() or None)
    if _libc.mount(*args) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"mount {fstype or source}: {os.strerror(number)}", str(target))


def umount(target: str | Path) -> None:
    """Detach a mount at once (MNT_DETACH); the namespace would take it along anyway."""
    _libc.umount2(os.fsencode(target), 2)


def bind(source: str | Path, target: str | Path, *, readonly: bool = False) -> None:
    """Make `source` visible at `target`."""
    mount(str(source), target, flags=MS_BIND)
    if readonly:
        mount("none", target, flags=MS_BIND | MS_REMOUNT | MS_RDONLY)


def overlay(target: Path, lowers: list[Path], upper: Path | None, work: Path | None) -> None:
    """Stack layers (topmost first) at `target`; read-only without `upper`.

    Options live in one page, so names are given relative to the layers' common parent.
    """
    if upper is None and len(lowers) == 1:
        bind(lowers[0], target, readonly=True)
        return
    base = os.path.commonpath([str(p) for p in (*lowers, *([upper, work] if upper and work else []))])
    options = ["lowerdir=" + ":".join(os.path.relpath(p, base) for p in lowers)]
    if upper and work:
        options += [f"upperdir={os.path.relpath(upper, base)}", f"workdir={os.path.relpath(work, base)}"]
    if not _initial_user_namespace():
        options.append("userxattr")
    here = os.getcwd()
    os.chdir(base)
    try:
        mount("overlay", target, "overlay", 0, ",".join(options))
    finally:
        os.chdir(here)


def confine(keep: list[Path]) -> bool:
    """Everything but `keep` and the kernel's own file systems becomes read-only in this namespace; False if it cannot.

    /tmp and /var/tmp stay as they are: programs of the machine make scratch files there.
    """
    wanted = [*keep, Path("/tmp"), Path("/var/tmp")]  # noqa: S108
    free = [os.path.realpath(path) for path in wanted if path.is_dir()]
    for path in free:
        mount(path, path, flags=MS_BIND | MS_REC)
    for target, kind, options in _mounts():
        if kind in _KERNEL or any(f"{target}/".startswith(f"{path}/") for path in free):
            continue
        flags = sum(bit for name, bit in _FLAGS.items() if name in options)
        with contextlib.suppress(OSError):  # a mount that another one hides
            mount("none", target, flags=MS_BIND | MS_REMOUNT | MS_RDONLY | flags)
    return bool(os.statvfs("/").f_flag & os.ST_RDONLY)


# Ways to have this machine's own services do something.
SERVICES = (
    "/run/systemd/private",
    "/run/dbus/system_bus_socket",
    "/run/docker.sock",
    "/run/podman/podman.sock",
    "/run/containerd/containerd.sock",
)


def hide(directories: list[Path]) -> None:
    """An empty directory in the place of each of these, and nobody behind the machine's service sockets."""
    for path in directories:
        if os.access(path, os.R_OK | os.X_OK):  # what we cannot look into, our scripts cannot either
            mount("tmpfs", path, "tmpfs", MS_NOSUID | MS_NODEV | MS_RDONLY, "size=4k,mode=700")
    for name in SERVICES:
        if os.path.lexists(name):
            with contextlib.suppress(OSError):
                mount("/dev/null", name, flags=MS_BIND)
    shield(Path("/proc"))


def shield(proc: Path) -> None:
    """The parts of a proc by which root changes the machine, not a process, become read-only."""
    for name in ("sys", "sysrq-trigger", "irq", "bus", "acpi"):
        path = proc / name
        if path.exists():
            with contextlib.suppress(OSError):  # in a user namespace the kernel refuses writers itself
                bind(path, path, readonly=True)


_KERNEL = ("proc", "sysfs", "devtmpfs", "devpts", "mqueue", "cgroup", "cgroup2", "securityfs", "debugfs", "tracefs")


def _mounts() -> list[tuple[str, str, list[str]]]:
    """(mount point, file system, options of the mount) of this namespace."""
    rows = []
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        left, _, right = line.partition(" - ")
        target = left.split()[4].encode().decode("unicode_escape")  # \\040 is a space
        if not (f"{target}/".startswith("/dev/")):
            rows.append((target, right.split()[0], left.split()[5].split(",")))
    return rows


def _initial_user_namespace() -> bool:
    """True when uid 0 here is the machine's own root."""
    return Path("/proc/self/uid_map").read_text().split()[:3] == ["0", "0", "4294967295"]


def system(root: Path, *, shielded: bool = True) -> None:
    """proc, sys (read-only) and a small dev in the tree, for scripts that run in it."""
    for name in ("proc", "sys", "dev"):
        if (root / name).is_symlink():
            raise OSError(errno.ELOOP, f"/{name} of the image is a link to {os.readlink(root / name)}")
        (root / name).mkdir(exist_ok=True)
    mount("proc", root / "proc", "proc")
    if shielded:
        shield(root / "proc")
    try:
        mount("sysfs", root / "sys", "sysfs", MS_RDONLY)
    except OSError:
        mount("/sys", root / "sys", flags=MS_BIND | MS_REC)
    dev = root / "dev"
    mount("tmpfs", dev, "tmpfs", MS_NOSUID, "mode=755")
    for name in ("null", "zero", "full", "random", "urandom", "tty"):
        (dev / name).touch()
        bind(f"/dev/{name}", dev / name)
    for name in ("pts", "shm"):
        (dev / name).mkdir()
    mount("devpts", dev / "pts", "devpts", 0, "newinstance,ptmxmode=0666,mode=620")
    mount("tmpfs", dev / "shm", "tmpfs", 0, "mode=1777")
    for link, to in (("ptmx", "pts/ptmx"), ("fd", "/proc/self/fd"), ("stdin", "/proc/self/fd/0")):
        (dev / link).symlink_to(to)
    for link, to in (("stdout", "/proc/self/fd/1"), ("stderr", "/proc/self/fd/2")):
        (dev / link).symlink_to(to)


def table() -> list[tuple[str, str, str]]:
    """(root within its filesystem, mount point, source) of every mount of this namespace."""
    rows = []
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        left, _, right = line.partition(" - ")
        fields = left.split()
        rows.append((fields[3], fields[4], right.split()[1]))
    return rows
