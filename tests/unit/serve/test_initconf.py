"""init's configuration file: it reads back as settings, from an interface, from undercloud.conf, or as an example."""

import subprocess

import pytest

from baremetal.config import Settings
from baremetal.errors import UsageError
from baremetal.serve import initconf

UNDERCLOUD = """
[DEFAULT]
local_interface = eth1
local_ip = 192.168.24.1/24
undercloud_nameservers = 10.0.0.53,fd00::53
undercloud_admin_password = never%read
subnets = ctlplane-subnet
[ctlplane-subnet]
cidr = 192.168.24.0/24
dhcp_start = 192.168.24.5
dhcp_end = 192.168.24.24
gateway = 192.168.24.1
"""


def test_example_is_valid_and_says_what_to_do(tmp_path):
    path = tmp_path / "etc" / "b.toml"
    assert initconf.write(path)
    assert Settings.load(path, env={}) == Settings()
    assert not initconf.write(path)
    text = path.read_text()
    uncommented = "\n".join(line.removeprefix("# ") for line in text.split("[[network]]")[1].splitlines())
    path.write_text("[[network]]" + uncommented)
    assert Settings.load(path, env={}).networks[0].interface == "eno2"


def test_undercloud_conf(tmp_path):
    (tmp_path / "undercloud.conf").write_text(UNDERCLOUD)
    path = tmp_path / "b.toml"
    initconf.write(path, undercloud_conf=tmp_path / "undercloud.conf")
    (network,) = Settings.load(path, env={}).networks
    assert (network.interface, network.server, network.range_first, network.range_last, network.dns) == (
        "eth1", "192.168.24.1", "192.168.24.5", "192.168.24.24", ("10.0.0.53",),
    )  # fmt: skip
    assert "never%read" not in path.read_text()


def test_undercloud_conf_with_leaves_and_what_has_no_place_here(tmp_path):
    """Routed networks (`subnets`) become relayed ones; what is not taken is named in the file, secrets never are."""
    more = UNDERCLOUD.replace("subnets = ctlplane-subnet", "subnets = ctlplane-subnet,leaf1\nclean_nodes = true")
    leaf = "[leaf1]\ncidr = 10.9.0.0/24\ndhcp_start = 10.9.0.10\ndhcp_end = 10.9.0.99\n"
    leaf += "gateway = 10.9.0.254\nmasquerade = no\n"
    (tmp_path / "undercloud.conf").write_text(more + leaf)
    path = tmp_path / "b.toml"
    initconf.write(path, undercloud_conf=tmp_path / "undercloud.conf")
    first, second = Settings.load(path, env={}).networks
    assert (first.relayed, first.cidr) == (False, "192.168.24.0/24")
    assert (second.name, second.relayed, second.interface, second.server, second.router, second.range_last) == (
        "leaf1", True, "eth1", "192.168.24.1", "10.9.0.254", "10.9.0.99",
    )  # fmt: skip
    assert "no place here: undercloud_admin_password, clean_nodes, [leaf1] masquerade" in path.read_text()
    assert "never%read" not in path.read_text()


@pytest.mark.parametrize(
    "text", ["no section", "[DEFAULT]\nlocal_ip = x", "\0", "[DEFAULT]\nsubnets = ctlplane-subnet,gone"]
)
def test_what_is_no_undercloud_conf(tmp_path, text):
    (tmp_path / "u").write_text(text)
    with pytest.raises(UsageError):
        initconf.write(tmp_path / "b.toml", undercloud_conf=tmp_path / "u")


def test_interface_tells_the_rest(tmp_path):
    path = tmp_path / "b.toml"
    initconf.write(path, interface="lo")
    assert 'server = "127.0.0.1"' in path.read_text()
    with pytest.raises(UsageError, match="there already"):
        initconf.write(path, interface="lo")
    with pytest.raises(UsageError, match="no interface nope0"):
        initconf.write(tmp_path / "c.toml", interface="nope0")


def test_systemd_unit_is_valid(tmp_path, monkeypatch):
    monkeypatch.setattr(initconf, "UNIT_DIR", tmp_path)
    monkeypatch.setattr(initconf, "SYSUSERS_DIR", tmp_path)
    monkeypatch.setattr(initconf.os, "geteuid", lambda: 0)
    monkeypatch.setattr(initconf.shutil, "which", lambda name: "/usr/bin/true")
    initconf.install_units(tmp_path / "b.toml")
    done = subprocess.run(
        ["systemd-analyze", "verify", tmp_path / "baremetal.service"], capture_output=True, text=True, timeout=30
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert f"ExecStart=/usr/bin/true serve --config {tmp_path}/b.toml" in (tmp_path / "baremetal.service").read_text()
