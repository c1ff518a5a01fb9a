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
    once = agent.handlers["inspect"]
    agent.handlers["inspect"] = lambda args, reporter: calls.append("x") or once(args, reporter)  # type: ignore[func-returns-value]
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


def test_a_failed_order_carries_its_fault(agent: Agent, server: Any, make_image: Any) -> None:
    urls = server.put_image(make_image(b"x" * 512 * 2000))
    server.orders = [{"id": "o1", "kind": "write_image", "args": urls}, {"id": "o2", "kind": "power_off"}]
    run(agent)
    assert server.reports[0]["fault"]["code"] == "no-disk"
    assert server.reports[0]["fault"]["brief"]


def test_whatever_is_raised_becomes_a_fault(agent: Agent, server: Any) -> None:
    def broken(args: Any, reporter: Any) -> dict[str, Any]:
        raise ZeroDivisionError("a defect")

    agent.handlers["inspect"] = broken
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
