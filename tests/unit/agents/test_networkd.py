"""network_data to systemd-networkd, and the way back when the server is out of reach."""

import socket

import pytest

from baremetal.agents.resident import networkd
from baremetal.agents.resident.network import Network, NetworkReverted

BONDED = {
    "links": [
        {"id": "nic1", "type": "phy", "ethernet_mac_address": "52:54:00:AA:00:01", "mtu": 9000},
        {"id": "nic2", "type": "phy", "ethernet_mac_address": "52:54:00:aa:00:02"},
        {"id": "nic3", "type": "phy", "ethernet_mac_address": "52:54:00:aa:00:03"},
        {"id": "bond0", "type": "bond", "bond_links": ["nic1", "nic2"], "bond_mode": "802.3ad", "bond_miimon": 50,
         "bond_xmit_hash_policy": "layer3+4"},
        {"id": "storage", "type": "vlan", "vlan_link": "bond0", "vlan_id": 101},
        {"id": "br0", "type": "bridge", "bridge_links": ["nic3"]},
    ],
    "networks": [
        {"id": "ctl", "type": "ipv4", "link": "bond0", "ip_address": "10.0.0.7", "netmask": "255.255.255.0",
         "gateway": "10.0.0.1", "routes": [{"network": "172.16.0.0", "netmask": "255.240.0.0", "gateway": "10.0.0.2"}]},
        {"id": "sto", "type": "ipv6", "link": "storage", "ip_address": "fd00::7/64"},
        {"id": "any", "type": "ipv4_dhcp", "link": "br0"},
    ],
    "services": [{"type": "dns", "address": "10.0.0.53"}],
}  # fmt: skip


def test_bond_vlan_bridge():
    files = networkd.render(BONDED)
    assert sorted(files) == [
        "10-baremetal-bond0.netdev", "10-baremetal-bond0.network", "10-baremetal-br0.netdev",
        "10-baremetal-br0.network",
        "10-baremetal-nic1.network", "10-baremetal-nic2.network", "10-baremetal-nic3.network",
        "10-baremetal-storage.netdev", "10-baremetal-storage.network",
    ]  # fmt: skip
    assert "PermanentMACAddress=52:54:00:aa:00:01" in files["10-baremetal-nic1.network"]
    assert "MTUBytes=9000" in files["10-baremetal-nic1.network"]
    assert "Bond=bond0" in files["10-baremetal-nic2.network"]
    assert "Mode=802.3ad\nMIIMonitorSec=50ms\nTransmitHashPolicy=layer3+4" in files["10-baremetal-bond0.netdev"]
    bond = files["10-baremetal-bond0.network"]
    assert "VLAN=vlan101" in bond
    assert "Address=10.0.0.7/24\nGateway=10.0.0.1\nDNS=10.0.0.53" in bond
    assert "[Route]\nDestination=172.16.0.0/12\nGateway=10.0.0.2" in bond
    assert "Id=101" in files["10-baremetal-storage.netdev"]
    assert "Address=fd00::7/64" in files["10-baremetal-storage.network"]
    assert "Bridge=br0" in files["10-baremetal-nic3.network"]
    assert "DHCP=ipv4" in files["10-baremetal-br0.network"]


def test_plain_dhcp_is_left_to_the_image():
    data = {
        "links": [{"id": "p", "type": "phy", "ethernet_mac_address": "x"}],
        "networks": [{"type": "ipv4_dhcp", "link": "p"}],
    }
    assert networkd.plain(data)
    assert not networkd.plain(BONDED)


PHY = {"id": "p", "type": "phy", "ethernet_mac_address": "52:54:00:00:00:01"}


@pytest.mark.parametrize(
    "data",
    [
        {"links": "x"},
        {"links": [{"type": "phy"}]},
        {"links": [{**PHY, "ethernet_mac_address": "52:54\n[Evil]"}]},
        {"links": [{"id": "b", "type": "bond", "bond_links": ["nowhere"]}]},
        {"links": [PHY, {"id": "v", "type": "vlan", "vlan_link": "p", "vlan_id": 5000}]},
        {"links": [PHY], "networks": [{"id": "n", "type": "ipv4", "link": "q"}]},
        {"links": [PHY], "networks": [{"id": "n", "type": "ipv4", "link": "p", "ip_address": "10.0.0.300"}]},
        {
            "links": [PHY],
            "networks": [{"id": "n", "type": "ipv4", "link": "p", "ip_address": "1.2.3.4", "netmask": "255.0.255.0"}],
        },
        {"links": [{"id": "w", "type": "warp"}]},
    ],
)
def test_wrong_data_is_refused_by_name(data):
    with pytest.raises(networkd.BadNetworkData):
        networkd.render(data)


@pytest.fixture
def listener():
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"https://127.0.0.1:{server.getsockname()[1]}"


def network(tmp_path, url, reloads):
    (tmp_path / "etc/systemd/network").mkdir(parents=True, exist_ok=True)
    return Network(str(tmp_path), str(tmp_path / "state"), [url], reload=lambda between: reloads.append(1), reach_s=0.1)


def test_a_network_that_reaches_the_server_stays(tmp_path, listener):
    reloads = []
    it = network(tmp_path, listener, reloads)
    assert it.bring(BONDED)
    assert not it.bring(BONDED)
    assert reloads == [1]
    it.bring({})
    assert not list((tmp_path / "etc/systemd/network").iterdir())


def test_a_network_that_does_not_is_taken_back(tmp_path):
    reloads = []
    directory = tmp_path / "etc/systemd/network"
    it = network(tmp_path, "https://127.0.0.1:1", reloads)
    (directory / "10-baremetal-bond0.netdev").write_text("old")
    with pytest.raises(NetworkReverted):
        it.bring(BONDED)
    assert reloads == [1, 1]
    assert [(p.name, p.read_text()) for p in directory.iterdir()] == [("10-baremetal-bond0.netdev", "old")]
