"""Runs one phase of a build inside a private mount and PID namespace.

Started by runner.py as `unshare --mount --pid --fork … python -m
baremetal.images.stage SPEC`. Whatever happens in here, mounts and processes
end with this process. Imports the standard library, and modules of ours that do no more.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

from baremetal.images import mounts, powers
from baremetal.images.inside import inside

TARGET_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
IN_TARGET = "tmp/in_target.d"
MARK = "\x1estage:"  # lines for runner.py, among those of the scripts


@dataclass
class Spec:
    """One phase. Paths are those of the host; layers are listed topmost first."""

    phase: str
    where: str  # host | target | finish
    build: str
    lowers: list[str]
    upper: str
    work: str
    hook_lowers: list[str]
    hook_upper: str = ""
    hook_work: str = ""
    out: str = ""  # where scripts on the host are run: what they leave there goes beside the image
    scripts: list[str] = field(default_factory=list)
    env: dict[str, str] = field(default_factory=dict)
    binds: list[list[str]] = field(default_factory=list)
    cache: str = ""
    packages: list[str] = field(default_factory=list)
    fstab: str = ""
    system: bool = True
    confined: bool = True  # scripts on the host may write in `build`, the draft, `cache`, /tmp and nowhere else
    private: list[str] = field(default_factory=list)  # directories of this machine that no script sees into
    shell: str = ""  # any of before, after, failure, comma between: a shell on the terminal there
    report: str = ""

    @property
    def mnt(self) -> Path:
        return Path(self.build, "mnt")

    @property
    def hooks(self) -> Path:
        return Path(self.build, "hooks")


def main(argv: list[str]) -> int:
    spec = Spec(**json.loads(Path(argv[0]).read_text()))
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    try:
        prepare(spec)
        if spec.confined:
            powers.give_up()
        code = run(spec)
    except OSError as exc:
        print(f"baremetal: this phase could not be prepared: {exc}", flush=True)
        return 1
    report = {"binds": _cache_binds(spec), "left": _reap()}
    if code == 0:
        finish(spec)
    Path(spec.report).write_text(json.dumps(report))
    return code


def prepare(spec: Spec) -> None:
    """Stack the layers, mount what scripts expect."""
    spec.mnt.mkdir(parents=True, exist_ok=True)
    spec.hooks.mkdir(exist_ok=True)
    own = [spec.build, os.path.dirname(spec.upper), spec.cache, os.path.dirname(spec.report)]
    if spec.confined and not mounts.confine([Path(path) for path in own if path]):
        print("baremetal: the machine's files cannot be protected from this phase's scripts", flush=True)
    if spec.confined:
        mounts.hide([Path(path) for path in spec.private])
    lowers = [Path(p) for p in spec.lowers]
    if lowers:
        mounts.overlay(spec.mnt, lowers, Path(spec.upper), Path(spec.work))
    else:
        mounts.bind(spec.upper, spec.mnt)
    hook_upper = Path(spec.hook_upper) if spec.hook_upper else None
    hook_work = Path(spec.hook_work) if spec.hook_work else None
    mounts.overlay(spec.hooks, [Path(p) for p in spec.hook_lowers], hook_upper, hook_work)
    if spec.fstab:
        inside(spec.mnt, "etc/fstab").write_text(spec.fstab)
    if spec.system:
        mounts.system(spec.mnt, shielded=spec.confined)
        _lend_resolver(spec.mnt)
        for source, target in spec.binds:
            if not os.path.lexists(source):  # removed from the cache since the root phase mounted it
                os.makedirs(source)
            mounts.bind(source, inside(spec.mnt, target))


def run(spec: Spec) -> int:
    """The phase's scripts through dib-run-parts, then the extra packages."""
    if "before" in spec.shell:
        _shell(spec)
    code = 0
    if spec.scripts:
        code = _run_parts(spec)
    if code == 0 and spec.packages:
        print(f"{MARK}script=extra-packages", flush=True)
        code = _call(_chroot(spec, ["install-packages", *spec.packages]), _target_env(spec))
    if "failure" in spec.shell if code else "after" in spec.shell:
        _shell(spec)
    return code


def finish(spec: Spec) -> None:
    """Take back what was lent, before the layer is kept."""
    if spec.phase == "root":
        _save_resolver(spec.mnt)
    if spec.system:
        _return_resolver(spec.mnt)
    if spec.where == "target":
        shutil.rmtree(inside(spec.mnt, IN_TARGET), ignore_errors=True)
    if spec.phase == "cleanup":
        _last_sweep(spec.mnt)


def _run_parts(spec: Spec) -> int:
    names = "|".join(spec.scripts)
    env = {"RUN_PARTS_REGEX": f"^({names})$"}
    run_parts = spec.hooks / "dib-run-parts"
    directory = f"{spec.phase}.d"
    if spec.where == "host":
        return _call([str(run_parts), str(spec.hooks / directory)], {**spec.env, **env}, cwd=spec.out or spec.build)
    hooks = inside(spec.mnt, IN_TARGET)
    hooks.mkdir(parents=True, exist_ok=True)
    mounts.bind(spec.hooks, hooks, readonly=True)
    try:
        command = ["/tmp/in_target.d/dib-run-parts", f"/tmp/in_target.d/{directory}"]  # noqa: S108
        return _call(_chroot(spec, command), {**_target_env(spec), **env})
    finally:
        if "failure" not in spec.shell and "after" not in spec.shell:
            mounts.umount(hooks)


def _chroot(spec: Spec, command: list[str]) -> list[str]:
    return ["chroot", str(spec.mnt), *command]


def _target_env(spec: Spec) -> dict[str, str]:
    env = {name: value for name, value in spec.env.items() if name not in ("TMPDIR", "VIRTUAL_ENV", "PYTHONPATH")}
    return {**env, "HOME": "/root", "PATH": TARGET_PATH}


def _call(command: list[str], env: dict[str, str], cwd: str = "/") -> int:
    try:
        return subprocess.run(command, env=env, cwd=cwd, stdin=subprocess.DEVNULL, check=False).returncode
    except OSError as exc:
        print(f"{command[0]}: {exc.strerror}", flush=True)
        return 127


def _shell(spec: Spec) -> None:
    """A shell on the terminal, in the tree when it has one, else beside it."""
    try:
        terminal = open("/dev/tty", "r+b", buffering=0)  # noqa: SIM115
    except OSError:
        print("baremetal: no shell is opened: there is no terminal", flush=True)
        return
    with terminal as tty:
        tty.write(b"baremetal: shell at phase %s; leave it to go on\r\n" % spec.phase.encode())
        there = spec.where == "target" and inside(spec.mnt, "bin/sh").exists()
        command = _chroot(spec, ["/bin/sh", "+m", "-i"]) if there else ["/bin/sh", "+m", "-i"]
        subprocess.run(
            command, env=_target_env(spec) if there else spec.env, stdin=tty, stdout=tty, stderr=tty, check=False
        )


def _cache_binds(spec: Spec) -> list[list[str]]:
    """Mounts a root.d script made from the image cache into the tree: made again in later phases."""
    if spec.phase != "root" or not spec.cache:
        return spec.binds
    found = []
    cache, mnt = os.path.realpath(spec.cache), os.path.realpath(spec.mnt)
    prefix = _fs_prefix(cache)
    for inner, target, _ in mounts.table():
        if not target.startswith(mnt + "/") or prefix is None:
            continue
        real = prefix + inner
        if real.startswith(cache + "/"):
            found.append([real, target[len(mnt) :]])
    return found


def _fs_prefix(path: str) -> str | None:
    """What to put before a mountinfo root to get a host path, for the filesystem holding `path`."""
    best: tuple[int, str] | None = None
    for inner, target, _ in mounts.table():
        if (path + "/").startswith(target.rstrip("/") + "/"):
            point = target.rstrip("/")
            if inner != "/" and not point.endswith(inner):
                continue
            prefix = point if inner == "/" else point[: -len(inner)]
            if best is None or len(point) >= best[0]:
                best = (len(point), prefix)
    return best[1] if best else None


def _reap() -> list[str]:
    """Kill what scripts left running; returns their command lines."""
    left = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            try:
                words = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
                os.kill(int(entry.name), signal.SIGKILL)
            except OSError:
                continue
            if words:
                left.append(words)
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline:
        try:
            os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            break
        time.sleep(0.01)
    return left


def _lend_resolver(mnt: Path) -> None:
    """The host's resolv.conf while scripts run; it never becomes part of a layer."""
    target = inside(mnt, "etc") / "resolv.conf"
    if target.parent.is_dir() and not target.is_symlink():
        target.write_bytes(_host_resolver())


def _return_resolver(mnt: Path) -> None:
    target = inside(mnt, "etc") / "resolv.conf"
    if target.is_file() and not target.is_symlink() and target.read_bytes() == _host_resolver():
        target.write_bytes(b"")


def _host_resolver() -> bytes:
    try:
        return Path("/etc/resolv.conf").read_bytes()
    except OSError:
        return b"nameserver 9.9.9.9\n"


def _save_resolver(mnt: Path) -> None:
    """etc/resolv.conf.ORIG is an interface of diskimage-builder: what is there at the end becomes the image's."""
    etc = inside(mnt, "etc")
    etc.mkdir(exist_ok=True)
    target, saved = etc / "resolv.conf", etc / "resolv.conf.ORIG"
    if target.is_symlink() or target.is_file():
        target.rename(saved)
    target.touch(mode=0o644)


def _last_sweep(mnt: Path) -> None:
    """What disk-image-create does at the end: resolver restored, /tmp emptied, logs cut."""
    etc = inside(mnt, "etc")
    target, saved = etc / "resolv.conf", etc / "resolv.conf.ORIG"
    if target.is_symlink():
        saved.unlink(missing_ok=True)
    else:
        target.unlink(missing_ok=True)
        if saved.is_symlink() or saved.is_file():
            saved.rename(target)
    # A tree's /tmp or /var/log may be a link with an absolute target, which is this machine's seen from here.
    tmp, logs, home = inside(mnt, "tmp"), inside(mnt, "var/log"), inside(mnt, "root")
    for child in tmp.glob("*") if tmp.is_dir() else ():
        shutil.rmtree(child) if child.is_dir() and not child.is_symlink() else child.unlink()
    for log in logs.rglob("*") if logs.is_dir() else ():
        if log.is_file() and not log.is_symlink():
            os.truncate(log, 0)
    for log in home.rglob("*.log") if home.is_dir() else ():
        log.unlink()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
