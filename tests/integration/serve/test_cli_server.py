"""The command line against a running server, as an operator and as a script use it."""

import json

import pytest

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def served(shared_site):
    """One server for all tests of this file."""
    site = shared_site
    for n in (1, 2, 3):
        site.cli("node", "enroll", f"r1-u0{n}", "--bmc", f"fake://r1-u0{n}", "--mac", f"52:54:00:00:00:0{n}", "--wait",
                 "--label", "role=web", "--class", "compute")  # fmt: skip
    return site


def out(done):
    return json.loads(done.stdout)


def test_list_and_show(served):
    rows = out(served.cli("node", "list", "--json"))["nodes"]
    assert [(n["name"], n["state"]) for n in rows] == [(f"r1-u0{n}", "manageable") for n in (1, 2, 3)]
    text = served.cli("node", "list", "--columns", "name,state").stdout.splitlines()
    assert text[1].split() == ["r1-u01", "manageable"]
    assert out(served.cli("node", "show", "r1-u01", "--json"))["labels"] == {"role": "web"}
    assert "52:54:00:00:00:01" in served.cli("node", "show", "r1-u01").stdout


def test_where_and_unknown_columns(served):
    assert len(out(served.cli("node", "list", "--where", "class=compute and role=web", "--json"))["nodes"]) == 3
    done = served.cli("node", "list", "--columns", "nmae", check=False)
    assert (done.returncode, "no column nmae" in done.stderr) == (2, True)
    names = served.cli("node", "list", "--columns", "name", "--sort", "-name", "--no-header").stdout.split()
    assert names == ["r1-u03", "r1-u02", "r1-u01"]
    assert out(served.cli("node", "list", "--columns", "name,class", "--json"))["nodes"][0] == {
        "name": "r1-u01", "class": "compute",
    }  # fmt: skip
    assert served.cli("node", "list", "--where", "fault").stderr == "no node matches\n"


def test_not_found_names_the_way_out(served):
    done = served.cli("node", "show", "r9", check=False)
    assert (done.returncode, done.stdout) == (3, "")
    assert done.stderr.startswith("error: ")
    assert "fix: baremetal node list" in done.stderr


def test_refused_verb_says_what_is_allowed(served):
    done = served.cli("node", "rescue", "r1-u01", check=False)
    assert done.returncode == 4
    assert "manageable" in done.stderr


def test_set_and_maintenance(served):
    served.cli("node", "set", "r1-u02", "--label", "rack=r1", "--trait", "CUSTOM_FAST", "--protected")
    doc = out(served.cli("node", "show", "r1-u02", "--json"))
    assert (doc["labels"], doc["traits"], doc["protected"]) == ({"role": "web", "rack": "r1"}, ["CUSTOM_FAST"], True)
    served.cli("node", "set", "r1-u02", "--label", "rack=", "--unprotected")
    assert out(served.cli("node", "show", "r1-u02", "--json"))["labels"] == {"role": "web"}
    served.cli("node", "maintenance", "r1-u02", "bad DIMM")
    assert out(served.cli("node", "show", "r1-u02", "--json"))["maintenance"] == "bad DIMM"
    served.cli("node", "maintenance", "r1-u02", "--off")
    served.cli("node", "maintenance", "r1-u[01-02]", "new switch")
    rows = out(served.cli("node", "list", "--json"))["nodes"]
    assert [n["maintenance"] for n in rows][:2] == ["new switch", "new switch"]
    served.cli("node", "maintenance", "r1-u[01-02]", "--off")


def test_set_by_options_and_of_a_range(served):
    served.cli("node", "set", "r1-u[02-03]", "--class", "large", "--label", "row=7")
    docs = [out(served.cli("node", "show", name, "--json")) for name in ("r1-u02", "r1-u03")]
    assert [(d["resource_class"], d["labels"]["row"]) for d in docs] == [("large", "7")] * 2
    served.cli("node", "set", "r1-u02", "r1-u03", "class=compute", "--label", "row=")
    served.cli("node", "set", "r1-u03", "--bmc", "fake://other", "--user", "ops")
    assert out(served.cli("node", "show", "r1-u03", "--json"))["bmc_url"] == "fake://ops@other"
    served.cli("node", "set", "r1-u03", "--bmc", "fake://r1-u03")


def test_one_that_cannot_be_deleted_keeps_no_other(served):
    served.cli("node", "enroll", "x1", "--no-manage")
    done = served.cli("node", "delete", "x0", "x1", "--yes", check=False)
    assert (done.returncode, "x1: forgotten" in done.stderr, "no node 'x0'" in done.stderr) == (1, True, True)


def test_power_of_one_and_of_a_range(served):
    served.cli("node", "power", "r1-u01", "on")
    done = served.cli("node", "power", "r1-u[01-03]", "off", "--dry-run", "--json")
    assert [r["node"] for r in out(done)["results"]] == ["r1-u01", "r1-u02", "r1-u03"]
    assert "r1-u01" in served.cli("node", "power", "r1-u01").stdout


def test_metadata_layers(served):
    served.cli("metadata", "set", "--site", "ntp=10.0.0.1", "web.port=80")
    served.cli("metadata", "set", "--role", "web", "web.port=8080")
    served.cli("metadata", "set", "r1-u01", "web.greeting=hello there")
    assert out(served.cli("metadata", "show", "r1-u01")) == {
        "ntp": "10.0.0.1", "web": {"port": 8080, "greeting": "hello there"},
    }  # fmt: skip
    rows = {r["path"]: r for r in out(served.cli("metadata", "show", "r1-u01", "--explain", "--json"))["values"]}
    assert (rows["web.port"]["layer"], rows["web.port"]["hides"]) == ("role", ["site: 80"])
    differing = served.cli("metadata", "diff", "r1-u01", "r1-u02", "--json", check=False)
    assert differing.returncode == 1  # as diff(1) says that there are differences
    (line,) = out(differing)["differences"]
    assert line["path"] == "web.greeting"
    assert "0 of 0 on their newest generation" in served.cli("metadata", "status").stderr
    served.cli("metadata", "unset", "--role", "web", "web.port")
    assert out(served.cli("metadata", "show", "r1-u01"))["web"]["port"] == 80
    done = served.cli("metadata", "unset", "r1-u01", "nothing", check=False)
    assert done.returncode == 3


def test_story_of_a_node(served):
    for verb in ("explain", "timeline", "events", "history"):
        assert served.cli("node", verb, "r1-u01").stdout
        assert out(served.cli("node", verb, "r1-u01", "--json"))
    assert "r1-u01" in served.cli("events", "--node", "r1-u01").stdout
    assert out(served.cli("events", "--limit", "3", "--json"))["events"]


def test_import_is_repeatable_and_says_which_entry_is_wrong(served, tmp_path):
    nodes = [{"name": "i1", "pm_type": "ipmi", "pm_addr": "10.255.0.1", "pm_user": "a", "pm_password": "secret-b",
              "mac": ["52:54:00:00:01:01"]}]  # fmt: skip
    file = tmp_path / "instackenv.json"
    file.write_text(json.dumps({"nodes": nodes}))
    dry = served.cli("node", "import", str(file), "--dry-run").stdout
    assert "secret-b" not in dry
    assert out(served.cli("node", "import", str(file), "--no-manage", "--json"))["results"][0]["ok"]
    assert "secret-b" not in served.cli("node", "show", "i1", "--json").stdout
    served.cli("node", "import", str(file), "--no-manage", check=False)
    file.write_text('{"nodes": [{"pm_type": "ipmi"}]}')
    done = served.cli("node", "import", str(file), check=False)
    assert done.returncode == 2
    served.cli("node", "delete", "i1")


def test_tcp_api_asks_for_a_token(served):
    server = ["--server", "https://127.0.0.1:6385"]
    stranger = served.cli(*server, "node", "list", check=False)
    assert (stranger.returncode, "fix: BAREMETAL_CA_FILE=ca.pem" in stranger.stderr) == (6, True)
    plain = served.cli("--server", "http://127.0.0.1:6385", "node", "list", check=False)
    assert "fix: it may speak TLS: --server https://127.0.0.1:6385" in plain.stderr
    served.env["BAREMETAL_CA_FILE"] = f"{served.root}/state/tls/ca.pem"
    try:
        assert served.cli(*server, "node", "list", check=False).returncode == 5
        served.env["BAREMETAL_TOKEN"] = served.cli("api", "token", "add", "ci", "--role", "observer").stdout.strip()
        assert out(served.cli(*server, "node", "list", "--json"))["nodes"]
        done = served.cli(*server, "node", "power", "r1-u01", "on", check=False)
        assert (done.returncode, "ci is observer" in done.stderr) == (5, True)
        served.cli("api", "token", "revoke", "ci")
        assert served.cli(*server, "node", "list", check=False).returncode == 5
    finally:
        for name in ("BAREMETAL_TOKEN", "BAREMETAL_CA_FILE"):
            served.env.pop(name, None)


def test_networks_settings_and_status(served):
    assert "192.168.91.0/24" in served.cli("network", "list").stdout
    assert out(served.cli("network", "leases", "--json")) == {"leases": []}
    assert "connected" in served.cli("status").stdout
    assert "127.0.0.1:6385 *" in served.cli("settings").stdout


def test_watch_once(served):
    assert "r1-u03" in served.cli("watch", "--once").stdout


def test_completion_knows_node_names(served):
    served.env |= {"COMP_WORDS": "baremetal node show r1-u0", "COMP_CWORD": "3", "_BAREMETAL_COMPLETE": "complete_bash"}
    try:
        assert served.cli(check=False).stdout.split() == ["r1-u01", "r1-u02", "r1-u03"]
    finally:
        for name in ("COMP_WORDS", "COMP_CWORD", "_BAREMETAL_COMPLETE"):
            served.env.pop(name)


def test_audit_names_who_asked(served):
    entries = out(served.cli("audit", "--json"))["entries"]
    enrolled = [e for e in entries if (e["method"], e["path"], e["node"]) == ("POST", "/api/nodes", "r1-u01")]
    assert [(e["status"], e["from"]) for e in enrolled] == [(201, "unix:uid=0")]
    assert "r1-u01" in served.cli("audit").stdout
    assert "enroll" in served.cli("audit", "--verbs").stdout


def test_allocation_says_why_no_node_was_chosen(served):
    done = served.cli("allocation", "create", "compute", "--trait", "CUSTOM_GPU", "--json", check=False)
    assert done.returncode == 1
    excluded = {row["node"]: row["rule"] for row in out(done)["excluded"]}
    assert set(excluded) == {"r1-u01", "r1-u02", "r1-u03"}
    assert all(excluded.values())
    assert len(out(served.cli("allocation", "list", "--json"))["allocations"]) == 1


def test_boot_device_and_database(served):
    assert served.cli("node", "boot-device", "r1-u01", "pxe").returncode == 0
    assert "pxe" in served.cli("node", "boot-device", "r1-u01").stdout
    assert served.cli("db", "check").returncode == 0
    assert served.cli("node", "validate", "r1-u01", check=False).returncode in (0, 1)
