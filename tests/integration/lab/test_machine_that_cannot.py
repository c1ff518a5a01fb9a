"""A machine that cannot have a lab is told why, and what to do."""

from __future__ import annotations

import subprocess
import sys

import pytest

pytestmark = pytest.mark.integration

CHECK = """
from baremetal.errors import BaremetalError
from baremetal.lab import namespace, network
try:
    network.refuse_host() if {host} else namespace.check()
    print("fine")
except BaremetalError as exc:
    print(exc.code, exc)
"""


def said(*prefix: str, host: bool = False) -> str:
    argv = [*prefix, sys.executable, "-c", CHECK.format(host=host)]
    return subprocess.run(argv, capture_output=True, text=True, timeout=180, check=False).stdout


def test_this_one_can():
    assert said() == "fine\n"


def test_not_root():
    out = said("setpriv", "--reuid", "65534", "--clear-groups", "--")
    assert out.startswith("machine the lab needs root")
    assert "sudo" in out


def test_no_namespaces():
    shell = (
        "unshare",
        "--user",
        "--map-root-user",
        "sh",
        "-c",
        'echo 0 >/proc/sys/user/max_net_namespaces; exec "$@"',
        "sh",
    )
    out = said(*shell)
    assert out.startswith("machine this machine gives no namespaces")
    assert "privileged" in out


def test_no_tun():
    shell = ("unshare", "--mount", "sh", "-c", 'mount -t tmpfs none /dev; exec "$@"', "sh")
    out = said(*shell)
    assert out.startswith("machine there is no /dev/net/tun")
    assert "modprobe tun" in out


def test_missing_programs_name_their_packages():
    shell = ("unshare", "--mount", "sh", "-c", 'mount -t tmpfs none /usr/share/OVMF; exec "$@"', "sh")
    code = "from baremetal.lab import tools; print(tools.missing())"
    argv = [*shell, sys.executable, "-c", code]
    assert subprocess.run(argv, capture_output=True, text=True, check=True).stdout == "['ovmf']\n"


def test_never_in_the_host_s_own_network():
    assert said(host=True).startswith("refused a rack is never built in the host's own network")
    assert said("unshare", "--net", "--", host=True) == "fine\n"
