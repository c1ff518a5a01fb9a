"""Events: append-only facts; the one source of timeline, explain, metrics and tests."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any


class Kind(StrEnum):
    """Every kind of event there is. One per stage, never per packet or block."""

    VERB = "verb"  # an operator asked for something
    STATE = "state"  # a state was entered
    STEP = "step"  # a step began, went on, ended
    WAIT = "wait"  # why we wait
    FAULT = "fault"
    BMC = "bmc"  # a BMC command with its attempts
    POWER = "power"
    DHCP = "dhcp"
    LOADER = "loader"  # a boot loader was fetched
    SCRIPT = "script"  # the iPXE script was fetched
    KERNEL = "kernel"  # kernel and ramdisk were fetched
    HELLO = "hello"  # the agent's first word
    INVENTORY = "inventory"
    PROGRESS = "progress"
    METADATA = "metadata"  # a generation was set, fetched, applied
    CONFIG = "config"  # the node reported its configuration run
    SECURITY = "security"  # replayed nonce, wrong token, rival server
    CONSOLE = "console"
    SERVER = "server"  # the server itself: start, stop, overload


@dataclass(frozen=True)
class Event:
    """One fact. `time` is Unix seconds, `data` is JSON of at most 4 KiB, never a secret.

    `source` names who saw it: control, boot, agent, bmc, operator.
    """

    id: str
    time: float
    node_id: str | None
    kind: Kind
    stage: str
    source: str
    outcome: str = "ok"
    boot_id: str | None = None
    fence: int | None = None
    duration_ms: int | None = None
    fault_code: str | None = None
    data: dict[str, Any] = field(default_factory=dict)
