"""The agent's conversation with a real HTTPS server: hello, orders, reports, refusals."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from baremetal.agents import inventory, ramdisk
from baremetal.agents.ramdisk import Agent, Leave, bootif, parse_cmdline

MAC = "52:54:00:12:34:56"


@pytest.fixture
def machine(tmp_path: Path) -> inventory.Roots:
    """A sysfs with one NIC and no disk."""
    nic = tmp_path / "sys/class/net/eth0"
    (nic / "device").mkdir(parents=True)
    (nic / "address").write_text(MAC.upper() + "\n")
    (tmp_path / "sys/block").mkdir()
    return inventory.Roots(str(tmp_path / "sys"), "/proc", "/dev")


@pytest.fixture
def agent(tmp_path: Path, server: Any, public_key: bytes, machine: inventory.Roots) -> Agent:
    etc = tmp_path / "etc"
    etc.mkdir()
    shutil.copy(server.ca_file, etc / "ca.pem")
    (etc / "image-signing.pub").write_text(public_key.hex() + "\n")
    (etc / "order-signing.pub").write_text(public_key.hex() + "\n")
    cmdline = {"baremetal.url": server.https_url, "baremetal.nonce": "1.aa", "BOOTIF": "01-52-54-00-12-34-56"}
    return Agent(cmdline, str(etc), machine)


def run(agent: Agent) -> str:
    """Until it leaves: how."""
    with pytest.raises(Leave) as caught:
        agent.run()
    return caught.value.how


def test_hello_inspect_power_off(agent: Agent, server: Any) -> None:
    server.orders = [{"id": "o1", "kind": "inspect"}, {"id": "o2", "kind": "power_off"}]
    assert run(agent) == "poweroff"
    assert [(r["order_id"], r["outcome"]) for r in server.reports] == [("o1", "done"), ("o2", "done")]
    found = server.reports[0]["data"]["inventory"]
    assert found["interfaces"][0]["mac_address"] == MAC
    assert found["boot"] == {"current_boot_mode": "bios", "pxe_interface": MAC, "secure_boot": False}
    assert found["memory"]["total"] > 0
    assert found["cpu"]["count"] >= 1


def test_the_token_goes_to_our_server_only(agent: Agent, server: Any) -> None:
    server.orders = [{"id": "o1", "kind": "reboot"}]
    assert run(agent) == "reboot"
    hello, *rest = server.requests
    assert "Authorization" not in hello[2]
    assert all(headers["Authorization"] == "Bearer " + "ab" * 32 for _, _, headers in rest)
    assert agent.connect(server.https_url + "/images/x").token == "ab" * 32
    assert agent.connect(server.http_url + "/images/x").token is None
    assert agent.connect("https://127.0.0.1:1/x").token is None


def test_the_same_order_again_is_only_reported_again(agent: Agent, server: Any) -> None:
    server.orders = [{"id": "o1", "kind": "inspect"}] * 3 + [{"id": "o2", "kind": "power_off"}]
    calls: list[str] = []
    once = agent.duties.handlers["inspect"]
    agent.duties.handlers["inspect"] = lambda args, reporter: calls.append("x") or once(args, reporter)  # type: ignore[func-returns-value]
    run(agent)
    assert calls == ["x"]
    assert [r["order_id"] for r in server.reports] == ["o1", "o1", "o1", "o2"]
    assert any("after=o1" in path for _, path, _ in server.requests)


def test_an_unknown_order_is_a_fault_and_the_agent_goes_on(agent: Agent, server: Any) -> None:
    server.orders = [{"id": "o1", "kind": "make_coffee"}, {"kind": "inspect"}, {"id": "o2", "kind": "power_off"}]
    run(agent)
    fault = server.reports[0]["fault"]
    assert (server.reports[0]["outcome"], fault["code"]) == ("failed", "order-refused")
    assert "inspect" in fault["fix"]


def test_a_failed_order_carries_its_fault(agent: Agent, server: Any, make_image: Any, sign_order: Any) -> None:
    urls = server.put_image(make_image(b"x" * 512 * 2000))
    server.orders = [sign_order("o1", "write_image", urls), {"id": "o2", "kind": "power_off"}]
    run(agent)
    assert server.reports[0]["fault"]["code"] == "no-disk"
    assert server.reports[0]["fault"]["brief"]


FORGED = [
    ("no signature", lambda order: {**order, "signature": None}),
    ("no base64", lambda order: {**order, "signature": "!!"}),
    ("another disk", lambda order: {**order, "args": {"disks": [{"serial": "OTHER"}]}}),
    ("another kind", lambda order: {**order, "kind": "run_step"}),
    ("another order", lambda order: {**order, "id": "o7"}),
]


@pytest.mark.parametrize(("what", "forge"), FORGED, ids=[what for what, _ in FORGED])
def test_an_order_that_changes_the_machine_must_be_signed(
    agent: Agent, server: Any, sign_order: Any, what: str, forge: Any
) -> None:
    good = sign_order("o1", "clean", {"disks": [{"serial": "S1"}]})
    server.orders = [forge(good), {"id": "o2", "kind": "power_off"}]
    run(agent)
    fault = server.reports[0]["fault"]
    assert (fault["code"], "not signed" in fault["brief"]) == ("order-refused", True)


def test_an_order_of_an_earlier_boot_is_refused(agent: Agent, server: Any, sign_order: Any) -> None:
    server.orders = [sign_order("o1", "clean", {"disks": []}, boot_id="b0"), {"id": "o2", "kind": "power_off"}]
    run(agent)
    assert "for this boot" in server.reports[0]["fault"]["brief"]


def test_without_a_key_nothing_is_changed(agent: Agent, server: Any, sign_order: Any) -> None:
    (Path(agent.etc) / "order-signing.pub").unlink()
    server.orders = [sign_order("o1", "clean", {"disks": []}), {"id": "o2", "kind": "power_off"}]
    run(agent)
    assert "no key" in server.reports[0]["fault"]["brief"]


def test_addresses_may_be_rewritten_on_the_way(agent: Agent, server: Any, sign_order: Any, make_image: Any) -> None:
    urls = server.put_image(make_image(b"x" * 512 * 2000))
    order = sign_order("o1", "write_image", {**urls, "image_url": "http://192.0.2.1/elsewhere"})
    server.orders = [{**order, "args": urls}, {"id": "o2", "kind": "power_off"}]
    run(agent)
    assert server.reports[0]["fault"]["code"] == "no-disk"


def test_the_second_server_is_asked_when_the_first_is_away(
    tmp_path: Path, server: Any, machine: inventory.Roots, capsys: Any
) -> None:
    (tmp_path / "etc").mkdir()
    shutil.copy(server.ca_file, tmp_path / "etc" / "ca.pem")
    urls = {"baremetal.url": "https://127.0.0.1:1", "baremetal.also": server.https_url}
    several = Agent({**urls, "baremetal.nonce": "1.aa"}, str(tmp_path / "etc"), machine)
    server.orders = [{"id": "o1", "kind": "inspect"}, {"id": "o2", "kind": "power_off"}]
    assert run(several) == "poweroff"
    assert [r["outcome"] for r in server.reports] == ["done", "done"]
    assert several.servers.url == server.https_url
    assert f"asking {server.https_url} instead" in capsys.readouterr().out


def test_whatever_is_raised_becomes_a_fault(agent: Agent, server: Any) -> None:
    def broken(args: Any, reporter: Any) -> dict[str, Any]:
        raise ZeroDivisionError("a defect")

    agent.duties.handlers["inspect"] = broken
    server.orders = [{"id": "o1", "kind": "inspect"}, {"id": "o2", "kind": "power_off"}]
    run(agent)
    fault = server.reports[0]["fault"]
    assert fault["code"] == "agent-error"
    assert "ZeroDivisionError" in fault["brief"]
    assert "broken" in fault["detail"]


def test_hold_waits_for_the_next_order(agent: Agent, server: Any) -> None:
    server.orders = [{"id": "o1", "kind": "hold"}, {"id": "o2", "kind": "power_off"}]
    assert run(agent) == "poweroff"
    assert [r["order_id"] for r in server.reports] == ["o2"]


def test_a_refused_nonce_ends_the_boot_with_its_reason(agent: Agent, server: Any, capsys: Any) -> None:
    server.hello_status = 403
    assert run(agent) == "poweroff"
    assert "this nonce was used before" in capsys.readouterr().out


def test_a_busy_control_plane_is_waited_for(agent: Agent, server: Any) -> None:
    server.busy = 2
    server.orders = [{"id": "o1", "kind": "power_off"}]
    assert run(agent) == "poweroff"


def test_a_dead_token_ends_the_boot(agent: Agent, server: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ramdisk, "DEAD_TOKEN_S", 0.0)
    server.token_dead = True
    server.orders = [{"id": "o1", "kind": "inspect"}]
    assert run(agent) == "poweroff"
    assert server.reports == []


CMDLINES = [
    ("BOOTIF=01-52-54-00-12-34-56", MAC),
    ("BOOTIF=01-52-54-00-AA-BB-CC", "52:54:00:aa:bb:cc"),
    ("BOOTIF=52:54:00:12:34:56", MAC),
    ("BOOTIF=garbage", None),
    ("quiet", None),
]


@pytest.mark.parametrize(("text", "mac"), CMDLINES)
def test_bootif(text: str, mac: str | None) -> None:
    assert bootif(parse_cmdline(text)) == mac


def test_the_first_nonce_counts() -> None:
    assert parse_cmdline("baremetal.nonce=1 a=b=c baremetal.nonce=2")["baremetal.nonce"] == "1"
    assert parse_cmdline("a=b=c")["a"] == "b=c"
