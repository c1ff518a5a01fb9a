"""The original disk-image-create and our engine on the same elements: the trees are compared.

Needs root and a loop device. The first test needs no network: its elements
write down what each phase sees (directory, variables, mounts), so a difference
in the driver shows. The second builds Debian from a mirror with unmodified
elements of diskimage-builder: about five minutes.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tarfile
from collections.abc import Mapping
from pathlib import Path

import pytest

from baremetal.images import mirror
from baremetal.images.elements import dib_elements_dir

ELEMENTS = Path(__file__).parents[2] / "data/images/elements"
BAREMETAL = Path(sys.executable).parent / "baremetal"

# What differs, and why that is right. Regular expressions of whole paths.
KNOWN = {
    "etc/fstab": "UUID and growfs in ours, LABEL in theirs",
    "lost\\+found": "theirs is packed from a mounted file system",
    "proc|sys": "an empty directory in ours, left out of theirs",
    "etc/dib-manifests/.*": "arguments, variables and paths of the run",
    ".*__pycache__.*": "compiled or not, as the shell that calls disk-image-create says",
    "etc/phases/array": "sudo drops exported bash functions in theirs, so the chroot has no element array",
}
DEBIAN = {
    **KNOWN,
    "boot/initrd\\.img-.*": "each run of mkinitramfs gives other dates",
    "etc/machine-id|var/lib/dbus/machine-id": "made anew by each run",
    "etc/ssh/ssh_host_.*": "made anew by each run",
    "etc/(shadow|gshadow|passwd|group)-": "backups with the day of the last change",
    "var/cache/(ldconfig/aux-cache|apt/.*|debconf/.*|man/.*)": "caches, with dates in them",
    "var/lib/(apt|dpkg|systemd|python|emacsen-common|pam|ucf)/.*": "state of package tools: dates, order of the runs",
    ".*\\.pyc": "compiled Python holds the date of its source",
    "opt/sources/\\.git/.*": "git keeps dates and paths",
    "var/log/.*": "cut to nothing by both, kept or not by the tool that wrote it",
}
UNMODIFIED = ["debian-minimal", "growroot", "dhcp-all-interfaces", "cloud-init", "cloud-init-datasources", "devuser"]
UNMODIFIED += ["sysprep", "openssh-server", "pip-and-virtualenv", "dynamic-login", "enable-serial-console"]
UNMODIFIED += ["runtime-ssh-host-keys", "journal-to-console", "modprobe", "element-manifest"]
SETTINGS = {
    "DIB_RELEASE": "bookworm",
    "DIB_CLOUD_INIT_DATASOURCES": "ConfigDrive, NoCloud",
    "DIB_DEV_USER_USERNAME": "dev",
    "DIB_DEV_USER_PWDLESS_SUDO": "yes",
    "DIB_INSTALLTYPE_pip_and_virtualenv": "package",
    "DIB_PYTHON_VERSION": "3",
}


def build(out: Path, *words: str, env: Mapping[str, str]) -> None:
    """A tar of the tree, by either engine."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("DIB_")}
    command = [str(BAREMETAL), "image", "build", "-n", "-t", "tar", "-o", str(out), *words]
    done = subprocess.run(
        command, env={**clean, **env}, cwd=out.parent, capture_output=True, text=True, errors="replace", check=False
    )
    assert done.returncode == 0, (done.stdout + done.stderr)[-3000:]


def listing(path: Path) -> dict[str, str]:
    """name -> type, mode, owner, and content or link target; of hard links the content, and all names of the file.

    Which of its names a tar holds as the file depends on the order of a directory.
    """
    found: dict[str, str] = {}
    named: dict[str, list[str]] = {}
    with tarfile.open(path) as tar:
        for member in tar:
            name = member.name.removeprefix("./").rstrip("/")
            if name in (".", "") or name.split("/")[0] == "dev":  # theirs packs the host's /dev
                continue
            if member.islnk():
                named.setdefault(member.linkname.removeprefix("./"), []).append(name)
                continue
            file = tar.extractfile(member) if member.isfile() else None
            body = file.read() if file else member.linkname.encode()
            body = _alike(name, body)
            kind = "file" if member.isfile() else member.type.decode()
            found[name] = f"{kind} {member.mode:o} {member.uid}:{member.gid} {body[:200]!r} {hash(body)}"
    for first, others in named.items():
        names = sorted([first, *others])
        found.update(dict.fromkeys(names, f"{found[first]} also named {' '.join(names)}"))
    return found


def _alike(name: str, body: bytes) -> bytes:
    """Contents without what differs for a known reason."""
    if name == "etc/shadow":  # the day of the last change: theirs is today, ours the date of the packages
        return re.sub(rb":\d{5}:", b":day:", body)
    if name == "etc/dib-source-repositories":  # in the order of elements: theirs comes from a set, ours is sorted
        return b"\n".join(sorted(body.splitlines()))
    return re.sub(rb" image=\S+", b"", body)  # theirs is the output's path, ours the image's name


def differences(theirs: Path, ours: Path, known: Mapping[str, str]) -> dict[str, tuple[str | None, str | None]]:
    """What differs and is not known to."""
    a, b = listing(theirs), listing(ours)
    names = [n for n in a.keys() | b.keys() if a.get(n) != b.get(n)]
    return {n: (a.get(n), b.get(n)) for n in sorted(names) if not any(re.fullmatch(word, n) for word in known)}


def need_loop_devices() -> None:
    if not Path("/dev/loop-control").exists():
        pytest.fail("the original disk-image-create needs /dev/loop-control")


@pytest.mark.peers
def test_the_same_tree_as_disk_image_create(tmp_path: Path) -> None:
    need_loop_devices()
    env = {"DIB_IMAGE_SIZE": "0.5", "ELEMENTS_PATH": str(ELEMENTS)}
    elements = ("-p", "extra-one,extra-two", "host-os", "greet", "phases", "features", "features-part")
    env["FEATURE_OF_THE_SHELL"] = "hello"
    build(tmp_path / "theirs", "--engine", "dib", *elements, env=env)
    build(tmp_path / "ours", "--offline", "--cache-dir", str(tmp_path / "cache"), *elements, env=env)
    assert differences(tmp_path / "theirs.tar", tmp_path / "ours.tar", KNOWN) == {}
    assert len(listing(tmp_path / "ours.tar")) > 60


def sources(tmp_path: Path) -> Path:
    """An element that takes a git repository, a tar and a file from this machine."""
    element = tmp_path / "elements/local-sources"
    element.mkdir(parents=True)
    repository = tmp_path / "repo"
    git = ["git", "-c", "user.name=n", "-c", "user.email=e@x", "-C", str(repository)]
    repository.mkdir()
    (repository / "hello.txt").write_text("hello\n")
    subprocess.run([*git, "init", "-q", "-b", "main"], check=True)
    subprocess.run([*git, "add", "."], check=True)
    subprocess.run([*git, "commit", "-q", "-m", "first"], check=True)
    subprocess.run(["tar", "-C", str(repository), "-czf", str(tmp_path / "packed.tgz"), "hello.txt"], check=True)
    rows = {
        "gitted": f"gitted git /opt/sources file://{repository} main",
        "packed": f"packed tar /opt/packed file://{tmp_path}/packed.tgz .",
        "single": f"single file /opt/single file://{repository}/hello.txt",
    }
    for name, row in rows.items():
        (element / f"source-repository-{name}").write_text(row + "\n")
    (element / "element-deps").write_text("source-repositories\n")
    (element / "README.md").write_text("Sources from this machine.\n")
    return element.parent


@pytest.mark.slow
@pytest.mark.timeout(2400)  # two Debians, on a machine that does other things too
def test_unmodified_elements_give_the_same_debian(tmp_path: Path) -> None:
    need_loop_devices()
    cache = os.environ.get("BAREMETAL_TEST_IMAGE_CACHE", str(tmp_path / "cache"))
    # Theirs first on the path, so that none of ours takes the place of one of the same name.
    path = f"{sources(tmp_path)}:{dib_elements_dir()}"
    env = {**SETTINGS, **mirror.from_machine(os.environ).environment(), "ELEMENTS_PATH": path}
    elements = [*UNMODIFIED, "local-sources"]
    dib_cache = {"DIB_IMAGE_CACHE": str(tmp_path / "dib"), "TMP_DIR": str(tmp_path), "DIB_IMAGE_SIZE": "4"}
    build(tmp_path / "theirs", "--engine", "dib", *elements, env={**env, **dib_cache})
    build(tmp_path / "ours", "--cache-dir", cache, *elements, env=env)
    found = differences(tmp_path / "theirs.tar", tmp_path / "ours.tar", DEBIAN)
    assert found == {}, "\n".join(f"{n}\n  theirs {a}\n  ours   {b}" for n, (a, b) in found.items())
