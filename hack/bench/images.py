"""CPU seconds, wall seconds and peak memory of builds of one and the same image; prints a table and one JSON line.

The original disk-image-create goes first, on its own elements. The packages it
ended up with (the kernel, GRUB and initramfs-tools among them) are what ours is
asked for; the bench fails when names or versions of the two images differ. Both
write a GPT disk with GRUB as qcow2 (zstd, clusters of 2 MiB) from the same mirror.
Then, of ours: one post-install script changed, nothing changed; and the leaner
content our own elements choose. With --mkosi FOLDER (its source tree; the mkosi of
Debian 12 needs a running systemd) mkosi installs the same packages too, as a packed
tar: its disk images need a newer systemd-repart than Debian 12 has. CPU counts all
child processes; memory is the peak, sampled, of anonymous memory of the whole family
plus what its build tmpfs holds.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path

from baremetal.images import mirror
from baremetal.images.environment import SUDO

ROOT = Path(__file__).resolve().parents[2]
BAREMETAL = str(ROOT / ".venv/bin/baremetal")
LEAN = ["debian-base", "cloud-kernel", "lean-initrd", "bootloader", "systemd-network", "growroot", "ssh"]
SAME = ["debian-base", "bootloader", "one-initrd"]
PEER = ["debian-cloud", "vm", "block-device-gpt", "openssh-server"]
# debian-minimal with one kernel, under a name of its own: disk-image-create would merge an override's packages.
KERNEL = "linux-image-cloud-amd64"

# What diskimage-builder calls and containers often lack: device-mapper. BLKPG partitions stand in for it.
KPARTX = """#!/bin/bash
dev=${@: -1}
case "$1" in
  -d*) rm -f /dev/mapper/"$(basename "$dev")"p*; for i in 1 2 3; do partx -d "$dev" 2>/dev/null && break
     sleep 1; done ;;
  *) partx -a "$dev" 2>/dev/null || true; mkdir -p /dev/mapper
     for p in "$dev"p*; do ln -sf "$p" /dev/mapper/"$(basename "$p")"; echo "add map $(basename "$p")"; done ;;
esac
exit 0
"""
LOSETUP = """#!/bin/bash
for word in "$@"; do [ "$word" = --show ] && exec /usr/sbin/losetup -P "$@"; done
exec /usr/sbin/losetup "$@"
"""
STAND_INS = {"sudo": SUDO, "kpartx": KPARTX, "losetup": LOSETUP, "dmsetup": "#!/bin/sh\nexit 0\n"}


class Memory(threading.Thread):
    """Samples, five times a second: anonymous memory of a process family, and what its build tmpfs hold."""

    def __init__(self, pid: int) -> None:
        super().__init__(daemon=True)
        self.pid, self.rss, self.tmpfs, self.over = pid, 0, 0, False

    def run(self) -> None:
        while not self.over:
            family = _family(self.pid)
            self.rss = max(self.rss, sum(_rss(pid) for pid in family))
            self.tmpfs = max(self.tmpfs, _tmpfs(family))
            time.sleep(0.2)


def _family(root: int) -> list[int]:
    parents: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                stat = (entry / "stat").read_text()
            except OSError:
                continue
            parents.setdefault(int(stat.rpartition(")")[2].split()[1]), []).append(int(entry.name))
    found, todo = [], [root]
    while todo:
        pid = todo.pop()
        found.append(pid)
        todo += parents.get(pid, [])
    return found


def _rss(pid: int) -> int:
    """Anonymous memory of one process in bytes; pages of files can be dropped and do not count."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return 0
    for line in status.splitlines():
        if line.startswith("RssAnon:"):
            return int(line.split()[1]) * 1024
    return 0


def _tmpfs(family: list[int]) -> int:
    """Bytes in tmpfs mounted for the build (named dib_build or image), seen through any of its processes."""
    best = 0
    for pid in family:
        try:
            rows = Path(f"/proc/{pid}/mounts").read_text().splitlines()
        except OSError:
            continue
        for row in rows:
            _, target, kind = row.split()[:3]
            if kind == "tmpfs" and ("dib_build" in target or "dib_image" in target or "/build." in target):
                try:
                    st = os.statvfs(f"/proc/{pid}/root{target}")
                except OSError:
                    continue
                best = max(best, (st.f_blocks - st.f_bfree) * st.f_frsize)
    return best


def measured(command: list[str], env: dict[str, str]) -> dict[str, float]:
    """Run it; CPU, wall and peak memory of its whole family."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    began = time.monotonic()
    process = subprocess.Popen(
        command,
        env={**os.environ, **env},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
    )
    memory = Memory(process.pid)
    memory.start()
    said = process.communicate()[0]
    memory.over = True
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    if process.returncode != 0:
        sys.stderr.write(said[-3000:])
        raise SystemExit(f"{' '.join(command[:3])} failed")
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    print(f"  {cpu:.1f} CPU s, {time.monotonic() - began:.1f} s", file=sys.stderr, flush=True)
    return {
        "cpu_s": round(cpu, 1),
        "wall_s": round(time.monotonic() - began, 1),
        "memory_mib": (memory.rss + memory.tmpfs) >> 20,
    }


def theirs(out: Path) -> dict[str, dict[str, float]]:
    """disk-image-create, unmodified, with empty caches and again with its own."""
    from diskimage_builder import paths

    bin_dir, mine = out / "bin", out / "elements"
    shutil.rmtree(mine / "debian-cloud", ignore_errors=True)
    bin_dir.mkdir(parents=True, exist_ok=True)
    for name, text in STAND_INS.items():
        (bin_dir / name).write_text(text)
        (bin_dir / name).chmod(0o755)
    shutil.copytree(Path(paths.get_path("elements"), "debian-minimal"), mine / "debian-cloud")
    packages = mine / "debian-cloud/package-installs.yaml"
    packages.write_text(packages.read_text().replace("linux-image-amd64", KERNEL))
    machine = mirror.from_machine(os.environ)
    env = {
        **machine.environment(),
        "PATH": f"{bin_dir}:{os.environ['PATH']}",
        "DIB_RELEASE": "bookworm",
        "DIB_PYTHON_VERSION": "3",
    }
    env |= {"DIB_IMAGE_CACHE": str(out / "dib-cache"), "ELEMENTS_PATH": str(mine), "TMP_DIR": str(out)}
    shutil.rmtree(out / "dib-cache", ignore_errors=True)
    env["PATH"] += f":{ROOT / '.venv/bin'}"
    # A mount namespace of its own, so that what it forgets to unmount goes with it.
    command = ["unshare", "--mount", "--propagation", "private", "--", str(ROOT / ".venv/bin/disk-image-create")]
    command += ["-n", "-o", str(out / "theirs"), "--qemu-img-options", "compression_type=zstd,cluster_size=2097152"]
    command += PEER
    return {"diskimage-builder, cold": measured(command, env), "diskimage-builder, again": measured(command, env)}


def their_packages(out: Path) -> dict[str, str]:
    """name -> version, from the manifest disk-image-create leaves."""
    found = {}
    for path in out.glob("theirs.d/dib-manifests/dib-manifest-dpkg-*"):
        for package in json.loads(path.read_text())["packages"]:
            found[package["package"].partition(":")[0]] = package["version"]
    return found


def ours(out: Path, cache: Path, elements: list[str], env: dict[str, str], title: str) -> dict[str, dict[str, float]]:
    """Cold, one post-install script changed, nothing changed."""
    script = out / "elements/bench-touch/post-install.d/70-touch"
    script.parent.mkdir(parents=True, exist_ok=True)
    script.write_text("#!/bin/bash\necho one > /etc/bench\n")
    script.chmod(0o755)
    command = [BAREMETAL, "image", "build", "-n", "-o", str(out / cache.name), "--no-add"]
    command += ["--cache-dir", str(cache), "-E", str(out / "elements"), *elements, "bench-touch"]
    rows = {f"{title}, cold": measured(command, env)}
    script.write_text("#!/bin/bash\necho two > /etc/bench\n")
    rows[f"{title}, one post-install script changed"] = measured(command, env)
    rows[f"{title}, nothing changed"] = measured(command, env)
    return rows


def mkosi(out: Path, source: Path, wanted: dict[str, str]) -> dict[str, dict[str, float]]:
    """mkosi with the same packages and one post-install script, cold and with another script; a tar, no disk."""
    work = out / "mkosi"
    shutil.rmtree(work, ignore_errors=True)
    for name in ("cache", "work", "packages", "sandbox/etc/apt/sources.list.d", "definition"):
        (work / name).mkdir(parents=True)
    machine = mirror.from_machine(os.environ)
    key = "/usr/share/keyrings/debian-archive-keyring.gpg"
    suites: dict[str, list[str]] = {}
    for url, suite in machine.suites("bookworm"):
        suites.setdefault(url, []).append(suite)
    stanzas = [
        f"Types: deb\nURIs: {url}\nSuites: {' '.join(names)}\nComponents: main\nSigned-By: {key}\n"
        for url, names in suites.items()
    ]
    # Its own list of sources has a debug archive, which mirrors often lack.
    (work / "sandbox/etc/apt/sources.list.d/mkosi.sources").write_text("\n".join(stanzas))
    (work / "definition/mkosi.conf").write_text(
        "[Distribution]\nDistribution=debian\nRelease=bookworm\n"
        "[Output]\nFormat=tar\nCompressOutput=zstd\n"
        f"[Content]\nBootable=no\nPackages={','.join(sorted(wanted))}\n"
        f"[Build]\nIncremental=yes\nCacheDirectory={work}/cache\nWorkspaceDirectory={work}/work\n"
        f"PackageCacheDirectory={work}/packages\nSandboxTrees={work}/sandbox\n"
    )
    script = work / "definition/mkosi.postinst.chroot"
    command = ["/usr/bin/python3", "-m", "mkosi", "-C", str(work / "definition"), "--force", "build"]
    env = {"PYTHONPATH": str(source), "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}
    rows = {}
    for word, title in (("one", "cold"), ("two", "one post-install script changed")):
        script.write_text(f"#!/bin/sh\necho {word} > /etc/bench\n")
        script.chmod(0o755)
        rows[f"mkosi (tree as tar.zst), {title}"] = measured(command, env)
    same_or_die(wanted, _installed(work / "definition/image.tar.zst"))
    return rows


def _installed(tar: Path) -> dict[str, str]:
    """name -> version, from the dpkg status of a packed tree."""
    command = ["tar", "--zstd", "-xOf", str(tar), "./var/lib/dpkg/status"]
    status = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    blocks = (
        dict(line.split(": ", 1) for line in block.splitlines() if ": " in line) for block in status.split("\n\n")
    )
    return {block["Package"]: block["Version"] for block in blocks if "Version" in block}


def our_packages(cache: Path) -> dict[str, str]:
    newest = max(cache.glob("images/*/packages.json"), key=lambda path: path.stat().st_mtime)
    return {p["name"]: p["version"] for p in json.loads(newest.read_text())}


def same_or_die(theirs_have: dict[str, str], ours_have: dict[str, str]) -> None:
    """The comparison is void when the two images hold different packages."""
    names = theirs_have.keys() | ours_have.keys()
    differ = sorted(n for n in names if theirs_have.get(n) != ours_have.get(n))
    if differ or not ours_have:
        rows = [f"{n}: theirs {theirs_have.get(n, 'none')}, ours {ours_have.get(n, 'none')}" for n in differ]
        raise SystemExit("the images hold different packages:\n" + "\n".join(rows))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("/var/tmp/baremetal-bench-images"))
    parser.add_argument("--no-dib", action="store_true", help="only our lean content")
    parser.add_argument("--keep-dib", action="store_true", help="take disk-image-create's figures of the last run")
    parser.add_argument(
        "--mkosi", type=Path, metavar="FOLDER", help="also mkosi, from its source tree; it wants python3-pefile"
    )
    args = parser.parse_args()
    out: Path = args.out.resolve()
    out.mkdir(parents=True, exist_ok=True)
    rows: dict[str, dict[str, float]] = {}
    kept = out / "theirs.json"
    if not args.no_dib:
        if not args.keep_dib:
            kept.write_text(json.dumps(theirs(out)))
        rows |= json.loads(kept.read_text())
        wanted = their_packages(out)
        cache = out / "same"
        shutil.rmtree(cache, ignore_errors=True)
        rows |= ours(out, cache, SAME, {"DIB_BASE_PACKAGES": " ".join(sorted(wanted))}, "ours, same packages")
        same_or_die(wanted, our_packages(cache))
        print(f"both hold the same {len(wanted)} packages, versions included")
    cache = out / "lean"
    shutil.rmtree(cache, ignore_errors=True)
    rows |= ours(out, cache, LEAN, {}, "ours, lean elements")
    if args.mkosi and not args.no_dib:
        try:
            rows |= mkosi(out, args.mkosi.resolve(), wanted)
        except SystemExit as exc:  # another project's needs are no reason to lose our rows
            print(f"no figure of mkosi: {exc}")
    print(f"{'build':<52}{'CPU s':>8}{'wall s':>8}{'MiB RAM':>9}")
    for name, row in rows.items():
        print(f"{name:<52}{row['cpu_s']:>8.1f}{row['wall_s']:>8.1f}{row['memory_mib']:>9}")
    for name in ("theirs", "same", "lean"):
        path = out / f"{name}.qcow2"
        if path.exists():
            print(f"{path.name}: {path.stat().st_size >> 20} MiB")
    print(json.dumps({"load": os.getloadavg()[0], "rows": rows}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
