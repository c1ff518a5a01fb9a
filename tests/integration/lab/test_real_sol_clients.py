"""ipmitool and FreeIPMI's ipmiconsole on our serial line, both directions."""

from __future__ import annotations

import pytest

from baremetal.wire.ipmi.sol import Line

pytestmark = pytest.mark.integration


@pytest.fixture
def echoing(bench):
    """A machine that answers every key with the key in brackets."""
    bench.virtual.keyboard = lambda keys: bench.virtual.printed(b"".join(b"[%c]" % key for key in keys))
    return bench


IPMITOOL = ("-I", "lanplus", "-U", "admin", "-P", "password")


def test_ipmitool_sol(echoing):
    shown = echoing.terminal(
        *("ipmitool", *IPMITOOL, "-H", echoing.virtual.address, "sol", "activate"),
        said=[(b"SOL Session operational", b"ab"), (b"[b]", b"c"), (b"[c]", b"\r~.")],
    )
    assert b"[a]" in shown
    assert b"terminated ipmitool" in shown
    assert "already de-activated" in echoing.ipmitool("sol", "deactivate", ok=False)


def test_the_line_is_for_one_and_can_be_taken(echoing):
    echoing.bmc.sol = Line(session_id=99)
    assert "already active on another session" in echoing.ipmitool("sol", "activate", ok=False)
    echoing.ipmitool("sol", "deactivate")
    assert echoing.bmc.sol is None


@pytest.mark.parametrize("loss", [0.0, 0.1])
def test_freeipmi_console(echoing, loss):
    echoing.virtual.faults.loss = loss
    shown = echoing.terminal(
        *("ipmiconsole", "-h", echoing.virtual.address, "-u", "admin", "-p", "password"),
        said=[(b"SOL established", b"x"), (b"[x]", b"y"), (b"[y]", b"&.")],
    )
    assert shown.count(b"[x]") == 1
