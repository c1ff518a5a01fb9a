"""The environment of a phase: every variable diskimage-builder exports, and nothing of this shell's.

Variables whose value is a path of this build (scratch directories, the
elements path) never enter a layer's key; see BUILD_ONLY.
"""

from __future__ import annotations

import hashlib
import os
import re
import sys
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

import yaml

from baremetal.images.definition import Definition
from baremetal.images.elements import Element, dib_lib_dir
from baremetal.images.mirror import Mirror
from baremetal.paths import PACKAGE

if TYPE_CHECKING:
    from baremetal.images.layout import Layout

# Paths of one build or machine, and noise: not part of any key.
BUILD_ONLY = frozenset(
    [
        "PATH",
        "HOME",
        "TMP_BUILD_DIR",
        "TMP_IMAGE_DIR",
        "TMP_HOOKS_PATH",
        "TMP_MOUNT_PATH",
        "TARGET_ROOT",
        "DIB_IMAGE_CACHE",
        "DIB_LOCKFILES",
        "ELEMENTS_PATH",
        "_LIB",
        "DIB_PYTHON_EXEC",
        "BAREMETAL_PACKAGE_DIR",
        "BAREMETAL_PYTHONPATH",
        "IMAGE_ELEMENT_YAML",
        "BASH_FUNC_get_image_element_array%%",
        "TMPDIR",
        "SOURCE_DATE_EPOCH",
        "PYTHONHASHSEED",
        "LC_ALL",
        "LANG",
        "http_proxy",
        "https_proxy",
        "no_proxy",
        "DIB_DISTRIBUTION_MIRROR",
        "DIB_DEBIAN_SECURITY_MIRROR",
        "DIB_ENV",
        "DIB_ARGS",
        "SSL_CERT_FILE",
        "SSL_CERT_DIR",
        "DIB_DEBUG_TRACE",
        "DIB_APT_PREFERENCES",
    ]
)
_PROXIES = ("http_proxy", "https_proxy", "no_proxy", "SSL_CERT_FILE", "SSL_CERT_DIR")
_NAMESPACE = uuid.UUID("6c0c5d30-41f7-5c1f-9f3c-3a8b7c1d2e4f")


def uuid_for(name: str, what: str) -> str:
    """A stable UUID of one thing of one image: filesystem, partition, disk."""
    return str(uuid.uuid5(_NAMESPACE, f"{name}/{what}"))


def phase_environment(
    definition: Definition,
    elements: Sequence[Element],
    *,
    build: Path,
    cache: Path,
    elements_path: Path,
    mirror: Mirror,
    epoch: int,
    layout: Layout,
    ambient: Mapping[str, str] = MappingProxyType({}),
    host: Mapping[str, str] = os.environ,
) -> dict[str, str]:
    """What every script of this build sees (research: the list elements rely on)."""
    names = [element.name for element in elements]
    boot = layout.part("/boot")
    array = "".join(f"[{element.name}]={elements_path / element.name} " for element in elements)
    env = {**ambient, **{name: host[name] for name in _PROXIES if name in host}}
    env |= {
        "PATH": f"{build}/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        "HOME": "/root",
        "USER": "root",
        "LC_ALL": "C",
        "LANG": "C",
        "PYTHONHASHSEED": "0",
        "SOURCE_DATE_EPOCH": str(epoch),
        "ARCH": definition.arch,
        "IMAGE_NAME": definition.name,
        "IMAGE_ELEMENT": " ".join(names),
        "IMAGE_ELEMENT_YAML": yaml.safe_dump({e.name: str(elements_path / e.name) for e in elements}),
        "BASH_FUNC_get_image_element_array%%": f'() {{ echo "{array}"\n}}',
        "ELEMENTS_PATH": str(elements_path),
        "_LIB": str(dib_lib_dir()),
        "TMP_BUILD_DIR": str(build),
        "TMP_IMAGE_DIR": str(build / "image"),
        "TMP_HOOKS_PATH": str(build / "hooks"),
        "TMP_MOUNT_PATH": str(build / "mnt"),
        "TARGET_ROOT": str(build / "mnt"),
        "DIB_IMAGE_CACHE": str(cache / "dib"),
        "DIB_LOCKFILES": str(cache / "dib/locks"),
        "DIB_OFFLINE": "",
        "DIB_PYTHON_EXEC": sys.executable,
        "DIB_PYTHON_VERSION": "3",
        "DIB_PYTHON": "python3",
        "DIB_DEFAULT_INSTALLTYPE": "source",
        "DIB_DEBUG_TRACE": "0",
        "DIB_CHECKSUM": "0",
        "DIB_NO_TMPFS": "1",
        "FS_TYPE": layout.root.filesystem,
        "DIB_ROOT_LABEL": layout.root.label,
        "DIB_ROOT_FSTYPE": layout.root.filesystem,
        "DIB_BOOT_LABEL": boot.label if boot else "",
        "DIB_MOUNTPOINTS": "|".join(layout.mounts),
        "IMAGE_BLOCK_DEVICE": "/dev/loop0",
        "IMAGE_BLOCK_DEVICES": "[image0]=/dev/loop0 [root]=/dev/loop0p3",
        "IMAGE_TYPE": "qcow2",
        "DIB_DEBIAN_SECURITY_SUBPATH": "",
        **mirror.environment(),
        "BAREMETAL_ROOT_UUID": layout.root.fs_uuid,
        "BAREMETAL_DISK_LABEL": layout.label,
        "BAREMETAL_ROOT_TYPE": "root" if layout.root.type.lower() == "8304" else "linux-generic",
        "BAREMETAL_BOOT_UUID": boot.fs_uuid if boot else "",
        "BAREMETAL_PACKAGE_DIR": str(PACKAGE.parent),
        "BAREMETAL_PYTHONPATH": str(PACKAGE.parent),
        "DIB_ARGS": " ".join((definition.name, *definition.elements)),
    }
    env |= definition.env
    env["DIB_ENV"] = "\n".join(f'declare -x {k}="{v}"' for k, v in sorted(definition.env.items()) if k[:4] == "DIB_")
    return env


# What a shell sets for itself: never meant for an element, even when one names it.
_SHELLS_OWN = re.compile(
    "_|HOME|USER|LOGNAME|SHELL|TERM|PWD|OLDPWD|SHLVL|MAIL|EDITOR|VISUAL|PAGER|PATH|MANPATH|TMP|TEMP|TMPDIR|TMP_DIR|IFS"
    "|HOSTNAME|HOST|DISPLAY|LANG|LANGUAGE|COLUMNS|LINES|VIRTUAL_ENV|PS[0-9]|UID|EUID|PPID|GROUPS|OPT(ARG|IND|ERR)"
    "|LS_COLORS|(LC|XDG|SSH|SUDO|GIT|DBUS|BAREMETAL|LD|PYTEST)_.*|(PYTHON|BASH).*"
)


def ambient(host: Mapping[str, str]) -> dict[str, str]:
    """Variables of the calling shell an element may have been written for (tripleo's, for example, want NODE_DIST)."""
    return {name: value for name, value in host.items() if not (_SHELLS_OWN.fullmatch(name) or name in BUILD_ONLY)}


def keyed(env: Mapping[str, str]) -> dict[str, str]:
    """The part of an environment that may enter a key."""
    return {name: value for name, value in env.items() if name not in BUILD_ONLY}


_SECRET = re.compile(r"PASSW|PWD\Z|SECRET|TOKEN|CREDENTIAL|PRIVATE|API_?KEY", re.IGNORECASE)


def told(env: Mapping[str, str]) -> dict[str, str]:
    """What documents beside an image say of an environment: sorted, and no password or token."""
    return {name: "(not told)" if _SECRET.search(name) else value for name, value in sorted(env.items())}


SUDO = """#!/bin/sh
# diskimage-builder's hooks call sudo even as root; inside the build namespace we are root.
while [ $# -gt 0 ]; do
  case "$1" in
    -u|--user) user=$2; shift 2 ;;
    --user=*) user=${1#*=}; shift ;;
    -g|--group) shift 2 ;;
    --preserve-env*|--login|--set-home|--non-interactive|--stdin|--group=*) shift ;;
    --) shift; break ;;
    -*[!EHSikn-]*) echo "sudo stand-in: option $1 not known" >&2; exit 2 ;;
    -[EHSikn]*) shift ;;
    -*) echo "sudo stand-in: option $1 not known" >&2; exit 2 ;;
    *) break ;;
  esac
done
if [ "${user:-root}" != root ]; then
  exec setpriv --reuid="$user" --regid="$(id -g "$user")" --init-groups env "$@"
fi
exec env "$@"
"""


# diskimage-builder's hooks are Python programs that import yaml; where the system's Python has none, they get ours.
SYSTEM_YAML = Path("/usr/lib/python3/dist-packages/yaml")


def lay_out(build: Path) -> None:
    """The scratch directories of a build and the stand-ins for programs."""
    for name in ("bin", "image", "mnt", "hooks"):
        (build / name).mkdir(parents=True, exist_ok=True)
    programs = {"sudo": SUDO}
    if not SYSTEM_YAML.is_dir():
        programs["python3"] = f'#!/bin/sh\nexec {sys.executable} "$@"\n'
    for name, text in programs.items():
        (build / "bin" / name).write_text(text)
        (build / "bin" / name).chmod(0o755)


def short_digest(text: str) -> str:
    """16 hex digits that stand for a text."""
    return hashlib.sha256(text.encode()).hexdigest()[:16]
