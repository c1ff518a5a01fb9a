"""CPU seconds, wall seconds and peak memory of image builds; prints a table and one JSON line.

Rows: our engine cold (packages fetched from the mirror), with one post-install
script changed, with nothing changed; diskimage-builder's disk-image-create on
its own Debian elements, twice (they bring the full kernel too, so the content is
larger). CPU counts all child processes.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
ELEMENTS = ["debian-base", "cloud-kernel", "lean-initrd", "bootloader", "systemd-network", "growroot", "ssh"]
DIB_ELEMENTS = ["debian-minimal", "vm", "block-device-gpt", "openssh-server", "lean-kernel"]

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


def measured(command: list[str], env: dict[str, str]) -> dict[str, float]:
    """Run it; CPU and peak memory of its whole family."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    began = time.monotonic()
    done = subprocess.run(
        command, env={**os.environ, **env}, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode != 0:
        sys.stderr.write(done.stdout.decode(errors="replace")[-3000:])
        raise SystemExit(f"{command[0]} failed")
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {
        "cpu_s": round(cpu, 1),
        "wall_s": round(time.monotonic() - began, 1),
        "peak_process_mib": after.ru_maxrss // 1024,
    }


def ours(out: Path) -> dict[str, dict[str, float]]:
    cache, mine = out / "cache", out / "elements"
    shutil.rmtree(cache, ignore_errors=True)
    script = mine / "bench-touch/post-install.d/70-touch"
    script.parent.mkdir(parents=True, exist_ok=True)
    script.write_text("#!/bin/bash\necho one > /etc/bench\n")
    script.chmod(0o755)
    command = [str(ROOT / ".venv/bin/baremetal"), "image", "build", "-n", "-o", str(out / "ours"), "--no-add"]
    command += ["--cache-dir", str(cache), "-E", str(mine), *ELEMENTS, "bench-touch"]
    rows = {"ours, cold": measured(command, {})}
    script.write_text("#!/bin/bash\necho two > /etc/bench\n")
    rows["ours, one post-install script changed"] = measured(command, {})
    rows["ours, nothing changed"] = measured(command, {})
    return rows


def theirs(out: Path) -> dict[str, dict[str, float]]:
    bin_dir, element = out / "bin", out / "elements/lean-kernel"
    bin_dir.mkdir(parents=True, exist_ok=True)
    stand_ins = {"kpartx": KPARTX, "losetup": LOSETUP, "dmsetup": "#!/bin/sh\nexit 0\n"}
    for name, text in stand_ins.items():
        (bin_dir / name).write_text(text)
        (bin_dir / name).chmod(0o755)
    element.mkdir(parents=True, exist_ok=True)
    (element / "package-installs.yaml").write_text("linux-image-cloud-amd64:\ninitramfs-tools:\n")
    (element / "element-deps").write_text("package-installs\n")
    env = {
        "PATH": f"{bin_dir}:{os.environ['PATH']}",
        "DIB_RELEASE": "bookworm",
        "DIB_IMAGE_CACHE": str(out / "dib-cache"),
        "ELEMENTS_PATH": str(out / "elements"),
    }
    shutil.rmtree(out / "dib-cache", ignore_errors=True)
    command = [str(ROOT / ".venv/bin/baremetal"), "image", "build", "--engine", "dib", "-n", "-o", str(out / "theirs")]
    command += DIB_ELEMENTS
    return {"diskimage-builder, cold": measured(command, env), "diskimage-builder, again": measured(command, env)}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("/var/tmp/baremetal-bench-images"))
    parser.add_argument("--no-dib", action="store_true")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    rows = ours(args.out)
    if not args.no_dib:
        rows |= theirs(args.out)
    print(f"{'build':<42}{'CPU s':>8}{'wall s':>8}{'peak MiB':>10}")
    for name, row in rows.items():
        print(f"{name:<42}{row['cpu_s']:>8.1f}{row['wall_s']:>8.1f}{row['peak_process_mib']:>10}")
    print(json.dumps({"load": os.getloadavg()[0], "rows": rows}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
