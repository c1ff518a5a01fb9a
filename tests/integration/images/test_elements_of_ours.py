"""One image with the elements we ship, built by an ordinary user; what each element promises is looked up in it.

The user exists only in a mount namespace of this test. Needs root (to become
that user), uidmap, mmdebstrap and a Debian mirror; about a minute of CPU.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from baremetal.images import mirror

pytestmark = pytest.mark.images
BAREMETAL = Path(sys.executable).parent / "baremetal"
UID, FIRST_ID = 4711, 300000
ELEMENTS = [
    "debian-base",
    "cloud-kernel",
    "one-initrd",
    "bootloader",
    "systemd-network",
    "ifupdown-network",
    "growroot",
]
ELEMENTS += ["ssh", "serial-console", "chrony", "hosts", "cloud-init"]
SETTINGS = {
    "DIB_NTP_SERVERS": "192.0.2.1 192.0.2.2",
    "DIB_HOSTS": "192.0.2.10 db db.example; 192.0.2.11 web",
    "DIB_SSH_AUTHORIZED_KEYS": "ssh-ed25519 AAAAkey me@example",
    "DIB_IMAGE_MIRROR": "http://mirror.example/debian",
    "DIB_IMAGE_SECURITY_MIRROR": "http://mirror.example/security",
}
# As /etc/passwd and the like, with one user more.
AS_USER = """
set -eu
cd "$1"; uid=$2; ids=$3; shift 3
for name in passwd group subuid subgid; do
    if [ -e /etc/$name ]; then cat /etc/$name; fi > $name
done
echo "builder:x:$uid:$uid::$PWD/home:/bin/sh" >> passwd
echo "builder:x:$uid:" >> group
if [ "$ids" != none ]; then
    echo "builder:$ids:65536" | tee -a subuid >> subgid
fi
for name in passwd group subuid subgid; do
    [ -e /etc/$name ] || : > /etc/$name
    mount --bind $name /etc/$name
done
mkdir -p home
chown $uid:$uid home
cd home
exec setpriv --reuid $uid --regid $uid --clear-groups -- env -i HOME=$PWD USER=builder TERM=dumb \
    PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin "$@"
"""


@pytest.fixture(scope="module")
def place() -> Iterator[Path]:
    """A directory others may enter; pytest's own are closed."""
    path = Path(tempfile.mkdtemp(prefix="baremetal-rootless-", dir="/var/tmp"))
    path.chmod(0o755)
    yield path
    subprocess.run(["rm", "-rf", str(path)], check=False)


def as_user(place: Path, *command: str, ids: object = FIRST_ID) -> subprocess.CompletedProcess[str]:
    """Run it as an ordinary user with a range of ids, or with none."""
    namespace = ["unshare", "--mount", "--propagation", "private", "--", "sh", "-c", AS_USER, "as-user"]
    words = [str(place), str(UID), str(ids), *command]
    return subprocess.run([*namespace, *words], capture_output=True, text=True, check=False)


def test_without_a_range_of_ids_it_says_what_to_do(place: Path) -> None:
    done = as_user(place, str(BAREMETAL), "image", "build", "-n", "-o", "x", "debian-base", ids="none")
    assert done.returncode != 0
    assert "builder has no range of ids in /etc/subuid" in done.stderr
    assert "usermod --add-subuids" in done.stderr


@pytest.fixture(scope="module")
def built(place: Path) -> Path:
    """The home directory with everything.tar and everything.qcow2."""
    machine = mirror.from_machine(os.environ)
    env = {**machine.environment(), **SETTINGS}
    env |= {name: os.environ[name] for name in ("http_proxy", "https_proxy") if name in os.environ}
    kept = os.environ.get("BAREMETAL_TEST_IMAGE_CACHE")
    if kept and Path(kept, "dib/apt").is_dir():
        shutil.copytree(Path(kept, "dib/apt"), place / "home/.cache/baremetal/dib/apt")
        subprocess.run(["chown", "-R", f"{UID}:{UID}", str(place / "home")], check=True)
    words = [f"{name}={value}" for name, value in env.items()]
    command = [str(BAREMETAL), "image", "build", "-n", "-t", "tar,qcow2", "-o", "everything", *ELEMENTS]
    done = as_user(place, "env", *words, *command)
    assert done.returncode == 0, done.stderr[-4000:]
    return place / "home"


@pytest.fixture(scope="module")
def tree(built: Path) -> dict[str, tarfile.TarInfo]:
    with tarfile.open(built / "everything.tar") as tar:
        return {member.name.removeprefix("."): member for member in tar}


def read(built: Path, path: str) -> str:
    with tarfile.open(built / "everything.tar") as tar:
        file = tar.extractfile(f".{path}")
        assert file is not None, path
        return file.read().decode()


def test_it_was_made_without_root_and_belongs_to_root_inside(built: Path, tree: dict[str, tarfile.TarInfo]) -> None:
    assert (built / "everything.qcow2").stat().st_uid == UID
    assert tree["/etc/passwd"].uid == 0
    assert tree["/etc/shadow"].gid == 42  # group shadow, out of the user's range
    assert tree["/usr/bin/passwd"].mode == 0o4755
    subprocess.run(["qemu-img", "check", str(built / "everything.qcow2")], check=True, capture_output=True)


FILES = [  # element, file, what its text must match
    (
        "chrony",
        "/etc/chrony/sources.d/provisioned.sources",
        r"server 192\.0\.2\.1 iburst\nserver 192\.0\.2\.2 iburst\n",
    ),
    ("chrony", "/etc/chrony/conf.d/provisioned.conf", r"makestep 1\.0 3"),
    ("hosts", "/etc/hosts", r"192\.0\.2\.10 db db\.example\n192\.0\.2\.11 web\n"),
    ("systemd-network", "/etc/systemd/network/80-ethernet.network", r"DHCP=ipv4\n"),
    ("ifupdown-network", "/etc/network/interfaces.d/provisioned", r"auto /e\*=ethernet\niface ethernet inet dhcp\n"),
    ("growroot", "/etc/repart.d/50-root.conf", r"Type=root"),
    ("growroot", "/etc/fstab", r"UUID=\S+ / ext4 defaults,x-systemd\.growfs 0 1\n"),
    ("ssh", "/etc/ssh/sshd_config.d/50-provisioned.conf", r"PasswordAuthentication no\n"),
    ("ssh", "/root/.ssh/authorized_keys", r"^ssh-ed25519 AAAAkey me@example\n$"),
    ("cloud-init", "/etc/cloud/cloud.cfg.d/95-provisioned.cfg", r"datasource_list: \[ ConfigDrive, None \]\n"),
    ("cloud-init", "/etc/cloud/cloud.cfg.d/95-provisioned.cfg", r"network: \{ config: disabled \}"),
    ("cloud-init", "/etc/cloud/cloud.cfg.d/95-provisioned.cfg", r"locale: (C\.UTF-8|false)\n"),
    ("bootloader", "/boot/grub/grub.cfg", r"linux /vmlinuz root=UUID=\S+ ro "),
    ("debian-base", "/etc/apt/sources.list", r"^deb http://mirror\.example/debian bookworm main\n"),
    ("debian-base", "/etc/machine-id", r"^$"),
]


@pytest.mark.parametrize(("element", "path", "pattern"), FILES, ids=[f"{e}:{p}" for e, p, _ in FILES])
def test_a_file_of_an_element(built: Path, element: str, path: str, pattern: str) -> None:
    assert re.search(pattern, read(built, path)), read(built, path)


ENABLED = [  # element, unit, the target that wants it
    ("chrony", "chrony.service", "multi-user.target"),
    ("systemd-network", "systemd-networkd.service", "multi-user.target"),
    ("ifupdown-network", "networking.service", "multi-user.target"),
    ("serial-console", "serial-getty@ttyS0.service", "getty.target"),
    ("ssh", "ssh.service", "multi-user.target"),
    ("ssh", "ssh-host-keys.service", "multi-user.target"),
    ("cloud-init", "cloud-init-local.service", "cloud-init.target"),
    ("cloud-init", "cloud-final.service", "cloud-init.target"),
]


@pytest.mark.parametrize(("element", "unit", "target"), ENABLED, ids=[f"{e}:{u}" for e, u, _ in ENABLED])
def test_a_unit_of_an_element_is_enabled(
    tree: dict[str, tarfile.TarInfo], element: str, unit: str, target: str
) -> None:
    assert tree[f"/etc/systemd/system/{target}.wants/{unit}"].issym()


ABSENT = ["/etc/ssh/ssh_host_ed25519_key", "/etc/ssh/ssh_host_rsa_key", "/var/lib/cloud/instance"]


@pytest.mark.parametrize("path", ABSENT)
def test_nothing_of_one_machine_is_in_it(tree: dict[str, tarfile.TarInfo], path: str) -> None:
    assert path not in tree


def test_the_initial_ramdisk_is_made_once_and_after_all_packages(place: Path, tree: dict[str, tarfile.TarInfo]) -> None:
    version = next(p for p in tree if re.fullmatch(r"/boot/vmlinuz-.*-amd64", p)).removeprefix("/boot/vmlinuz-")
    assert tree[f"/boot/initrd.img-{version}"].size > 5 << 20
    assert tree["/initrd.img"].linkname == f"boot/initrd.img-{version}"
    logs = sorted((place / "home/.cache/baremetal/logs/everything").glob("*.log"))
    made = [log.name for log in logs for line in log.read_text().splitlines() if "update-initramfs: Generating" in line]
    assert len(made) == 1
    assert "packages" in made[0]


def test_a_second_build_of_the_same_user_does_nothing(place: Path, built: Path) -> None:
    machine = mirror.from_machine(os.environ)
    words = [f"{name}={value}" for name, value in {**machine.environment(), **SETTINGS}.items()]
    command = [str(BAREMETAL), "image", "build", "-n", "-t", "tar,qcow2", "-o", "everything", "--json", *ELEMENTS]
    done = as_user(place, "env", *words, *command)
    assert done.returncode == 0, done.stderr[-3000:]
    assert json.loads(done.stdout)["cached"] is True
