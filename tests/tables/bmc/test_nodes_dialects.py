"""Nodes files: every dialect of the last fifteen years, and every mistake with its index."""

import json

import pytest

from baremetal.bmc.nodesfile import NodesFileError, load, parse
from baremetal.errors import UsageError

NODE = {
    "name": "r1-u07",
    "pm_type": "ipmi",
    "pm_addr": "10.0.0.17",
    "pm_user": "admin",
    "pm_password": "geheim",
    "ports": [{"address": "52:54:00:AA:BB:01", "physical_network": "ctlplane"}],
    "cpu": "8",
    "memory": 16384,
    "disk": "40",
    "arch": "x86_64",
    "capabilities": "profile:web,boot_option:local",
    "root_device": {"serial": "S1"},
    "_comment": "left of the door",
}


def one(**changes):
    return {key: value for key, value in {**NODE, **changes}.items() if value is not ...}


DIALECTS = [  # what, suffix, text, url, macs
    ("instackenv", ".json", json.dumps({"ssh-user": "stack", "nodes": [NODE]}), "ipmi://admin@10.0.0.17", 1),
    ("bare list", ".json", json.dumps([NODE]), "ipmi://admin@10.0.0.17", 1),
    ("old mac", ".json", json.dumps([one(ports=..., mac=["52-54-00-aa-bb-01"])]), "ipmi://admin@10.0.0.17", 1),
    (
        "pxe_ipmitool",
        ".json",
        json.dumps([one(pm_type="pxe_ipmitool", pm_port=6230)]),
        "ipmi://admin@10.0.0.17:6230",
        1,
    ),
    ("address only", ".json", json.dumps([{"pm_type": "ipmi", "pm_addr": "10.0.0.18"}]), "ipmi://10.0.0.18", 0),
    (
        "redfish",
        ".json",
        json.dumps([one(pm_type="redfish", pm_system_id="/redfish/v1/Systems/1", pm_addr="https://10.0.0.19")]),
        "redfish+https://admin@10.0.0.19/redfish/v1/Systems/1",
        1,
    ),
    (
        "idrac",
        ".json",
        json.dumps([one(pm_type="pxe_drac", redfish_verify_ca=False)]),
        "redfish+https://admin@10.0.0.17?verify=none",
        1,
    ),
    ("wol", ".json", json.dumps([one(pm_type="pxe_wol", pm_user=..., pm_password=...)]), "manual://r1-u07", 1),
    ("manual", ".json", json.dumps([{"pm_type": "manual-management", "name": "m1"}]), "manual://m1", 0),
    ("fake", ".json", json.dumps([{"pm_type": "fake_pxe", "name": "f1"}]), "fake://f1", 0),
    (
        "yaml",
        ".yaml",
        "nodes:\n- {pm_type: ipmi, pm_addr: 10.0.0.17, pm_user: admin, mac: ['52:54:00:aa:bb:01']}",
        "ipmi://admin@10.0.0.17",
        1,
    ),
    ("csv", ".csv", "pxe_ipmitool,10.0.0.17,admin,geheim,52:54:00:aa:bb:01\n", "ipmi://admin@10.0.0.17", 1),
    (
        "csv header",
        ".csv",
        "name,bmc,password,macs\nn1,ipmi://admin@10.0.0.17,geheim,52:54:00:aa:bb:01;52:54:00:aa:bb:02\n",
        "ipmi://admin@10.0.0.17",
        2,
    ),
    (
        "ours",
        ".toml",
        '[[nodes]]\nname="r1-u07"\nbmc="ipmi://admin@10.0.0.17"\npassword="geheim"\nmacs=["52:54:00:aa:bb:01"]\nlabels={rack="r1"}\n',
        "ipmi://admin@10.0.0.17",
        1,
    ),
    (
        "ironic",
        ".yaml",
        "nodes:\n- name: n1\n  driver: ipmi\n"
        "  driver_info: {ipmi_address: 10.0.0.17, ipmi_username: admin, ipmi_password: geheim}\n"
        "  properties: {cpus: 4, capabilities: 'a:b'}\n  ports:\n  - address: 52:54:00:aa:bb:01\n",
        "ipmi://admin@10.0.0.17",
        1,
    ),
    (
        "ironic redfish in a chassis",
        ".json",
        json.dumps(
            {
                "chassis": [
                    {
                        "nodes": [
                            {
                                "driver": "redfish",
                                "driver_info": {
                                    "redfish_address": "https://10.0.0.20",
                                    "redfish_username": "root",
                                    "redfish_password": "geheim",
                                    "redfish_system_id": "/redfish/v1/Systems/1",
                                },
                            }
                        ]
                    }
                ]
            }
        ),
        "redfish+https://root@10.0.0.20/redfish/v1/Systems/1",
        0,
    ),
]


@pytest.mark.parametrize(("what", "suffix", "text", "url", "macs"), DIALECTS, ids=[row[0] for row in DIALECTS])
def test_dialect(what, suffix, text, url, macs):
    (node,) = parse(text, suffix=suffix)
    assert node.bmc_url == url
    assert len(node.macs) == macs
    assert all(mac == mac.lower() for mac in node.macs)
    assert "geheim" not in repr(node)


def test_everything_tripleo_said_is_kept():
    (node,) = parse(json.dumps([NODE]))
    assert node.password.reveal() == "geheim"
    assert node.properties == {"cpus": 8, "memory_mb": 16384, "local_gb": 40}
    assert node.capabilities == {"profile": "web", "boot_option": "local"}
    assert node.root_device == {"serial": "S1"}
    assert node.ports[0]["physical_network"] == "ctlplane"


MISTAKES = [  # what, entry, said
    ("no type", {"pm_addr": "10.0.0.1"}, "has none of bmc, pm_type, driver"),
    ("unknown type", one(pm_type="telepathy"), "pm_type 'telepathy' is not known"),
    ("no address", one(pm_addr=...), "pm_addr is missing"),
    ("bad address", one(pm_addr="10.0.0.300"), "no address and no host name"),
    ("bad MAC", one(ports=[{"address": "52:54:00"}]), "MAC '52:54:00' is none"),
    ("MAC twice", one(mac=["52:54:00:aa:bb:01"]), "MAC 52:54:00:aa:bb:01 stands twice"),
    ("not a number", one(memory="lots"), "memory: 'lots' is not a number"),
    ("unknown key", one(pm_adr="10.0.0.1"), "unknown key 'pm_adr'"),
    ("bad capabilities", one(capabilities="profile=web"), "capabilities: neither"),
    ("bad hints", one(root_device="/dev/sda"), "root_device: is str, not an object"),
    ("platform alone", one(arch=..., platform="SKL"), "platform needs arch"),
    ("redfish without system", one(pm_type="redfish"), "pm_system_id is missing"),
    ("password is an object", one(pm_password={"geheim": 1}), "pm_password: not a text"),
    ("bad uuid", one(uuid="17"), "uuid '17' is none"),
    ("bad name", one(name="a b"), "name 'a b'"),
    ("not an object", "10.0.0.1", "is str, not an object"),
]


@pytest.mark.parametrize(("what", "entry", "said"), MISTAKES, ids=[row[0] for row in MISTAKES])
def test_mistake_is_named_with_its_index(what, entry, said):
    good = {"pm_type": "ipmi", "pm_addr": "10.9.9.9"}
    with pytest.raises(NodesFileError) as caught:
        parse(json.dumps([good, entry]))
    assert said in caught.value.detail
    assert "node 1" in caught.value.detail
    assert "geheim" not in str(caught.value)


def test_errors_on_entry_3_and_977_come_together():
    nodes = [{"pm_type": "ipmi", "pm_addr": f"10.0.{n >> 8}.{n & 255}"} for n in range(1, 1001)]
    nodes[3]["pm_addr"] = "10.0.0.1"
    nodes[977]["mac"] = ["nonsense"]
    with pytest.raises(NodesFileError) as caught:
        parse(json.dumps(nodes))
    assert [problem.index for problem in caught.value.problems] == [3, 977]


def test_duplicates_across_entries():
    with pytest.raises(NodesFileError) as caught:
        parse(json.dumps([NODE, one(name="r1-u07"), one(name="other", pm_addr="10.0.0.99")]))
    assert "BMC address 10.0.0.17 is also node 0's" in caught.value.detail
    assert "name r1-u07 is also node 0's" in caught.value.detail
    assert caught.value.detail.count("MAC 52:54:00:aa:bb:01 is also node 0's") == 2


UNREADABLE = [  # suffix, text, said
    (".json", '{"nodes": [{"pm_password": "geheim",}]}', "line 1"),
    (".json", '[{"pm_addr": "a", "pm_addr": "b"}]', "twice"),
    (".json", "[" * 100000, "cannot be used"),
    (".yaml", "nodes: [pm_password: geheim", "line"),
    (".toml", 'password = "geheim', "end of document"),
    (".toml", 'password = "geheim"x\n', "line 1"),
    (".yaml", "pm_password: *geheim", "line 1"),
    (".json", "{}", "no machines"),
    (".json", "17", "no list"),
]


@pytest.mark.parametrize(("suffix", "text", "said"), UNREADABLE)
def test_unreadable_files_say_where_and_show_nothing(suffix, text, said):
    with pytest.raises(UsageError) as caught:
        parse(text, suffix=suffix)
    assert said in str(caught.value)
    assert "geheim" not in str(caught.value)


def test_password_from_environment_and_file(tmp_path, monkeypatch):
    secret = tmp_path / "pw"
    secret.write_bytes(b"ge\xffheim\n")
    monkeypatch.setenv("BMC_PW", "aus der umgebung")
    path = tmp_path / "nodes.toml"
    path.write_text(
        f'[[nodes]]\nbmc="ipmi://10.0.0.1"\npassword_file="{secret}"\n[[nodes]]\nbmc="ipmi://10.0.0.2"\npassword_env="BMC_PW"\n'
    )
    first, second = load(path)
    assert first.password.reveal().encode("utf-8", "surrogateescape") == b"ge\xffheim"
    assert second.password.reveal() == "aus der umgebung"


def test_missing_file_is_a_usage_error(tmp_path):
    with pytest.raises(UsageError, match="cannot be read"):
        load(tmp_path / "none.json")


EMPTY_OR_BROKEN = [  # suffix, text, what is said
    (".json", "[]", "no machines"),
    (".json", '{"nodes": []}', "no machines"),
    (".json", "[" * 100_000, "cannot be used"),
    (".json", "[" + "9" * 10_000 + "]", "cannot be used"),
    (".csv", "name,bmc,mac\n", "no machines"),
    (".csv", "name,bmc\n" + "a" * 200_000 + ",x\n", "not CSV"),
    (".csv", 'name,bmc\ny3,"never ends\n', "not CSV"),
]


@pytest.mark.parametrize(("suffix", "text", "said"), EMPTY_OR_BROKEN)
def test_what_holds_no_machine_is_refused_with_a_way_on(suffix, text, said):
    with pytest.raises(UsageError) as caught:
        parse(text, suffix=suffix)
    assert said in caught.value.brief
    assert caught.value.fix


def test_a_csv_with_other_columns_is_known_by_its_header():
    rows = parse("name,bmc_url,mac\ny1,ipmi://admin@10.0.0.17,52:54:00:aa:bb:01\n", suffix=".csv")
    assert [(row.name, row.bmc_url) for row in rows] == [("y1", "ipmi://admin@10.0.0.17")]
    with pytest.raises(NodesFileError) as caught:
        parse("name,mac\ny1,52:54:00:aa:bb:01\n", suffix=".csv")
    assert "line 2, node 0 (y1): has none of bmc, pm_type, driver" in caught.value.detail


def test_a_user_called_name_makes_no_header():
    rows = parse("ipmi,10.0.0.17,name,mac,52:54:00:aa:bb:01\n", suffix=".csv")
    assert [(row.username, row.password.reveal()) for row in rows] == [("name", "mac")]


def test_an_endless_file_is_left_alone():
    with pytest.raises(UsageError) as caught:
        load("/dev/zero")
    assert "larger than" in caught.value.brief
