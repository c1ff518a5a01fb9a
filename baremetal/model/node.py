"""A node: one machine we provision, as the store keeps it.

Names follow Ironic's vocabulary. State changes only by the reconcile pass.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from baremetal.model.fault import Fault


class State(StrEnum):
    """Where a node is. Failure and waiting stand beside it, not in it."""

    ENROLL = "enroll"
    VERIFYING = "verifying"
    MANAGEABLE = "manageable"
    INSPECTING = "inspecting"
    CLEANING = "cleaning"
    AVAILABLE = "available"
    DEPLOYING = "deploying"
    ACTIVE = "active"
    DELETING = "deleting"
    ADOPTING = "adopting"
    RESCUING = "rescuing"
    RESCUE = "rescue"
    UNRESCUING = "unrescuing"
    SERVICING = "servicing"
    ERROR = "error"


class Power(StrEnum):
    ON = "on"
    OFF = "off"
    UNKNOWN = "unknown"


class Firmware(StrEnum):
    """How the machine's firmware boots; decides loader and boot mode."""

    BIOS = "bios"
    UEFI = "uefi"
    UNKNOWN = "unknown"


@dataclass(frozen=True)
class Wait:
    """What the node waits for: why, and until when (Unix seconds)."""

    because: str
    until: float
    since: float


@dataclass(frozen=True)
class Node:
    """One row of the node table, secrets apart.

    `wanted` is the verb in progress or asked for (`manage`, `inspect`,
    `provide`, `deploy`, `undeploy`, …) with its arguments in `wanted_args`.
    `step` is the name of the step the pass is at. `fence` grows with every
    save; a write that carries an old fence is refused. `boot_id` names the
    current network boot. `wake_at` is Unix seconds; None = only by evidence.
    `bmc_url` never holds a password. `wanted_by`/`wanted_since` say who asked
    and when; `wanted` stays set while a workflow runs and is None in a failed
    one. `power_wanted` is on, off, reboot or soft-off while that is being done;
    `held` says why a workflow stands still between two steps. `evidence` counts
    what came in from outside, `work` is the running workflow's own notebook
    (steps left, attempts): only passes read it. `extra` is what other tools'
    APIs keep beside the node (`ironic`: instance_info, owner …).
    """

    id: str
    name: str
    state: State = State.ENROLL
    wanted: str | None = None
    wanted_args: dict[str, Any] = field(default_factory=dict)
    wanted_by: str | None = None
    wanted_since: float = 0.0
    step: str | None = None
    wait: Wait | None = None
    wake_at: float | None = None
    fault: Fault | None = None
    fence: int = 0
    evidence: int = 0
    held: str | None = None
    work: dict[str, Any] = field(default_factory=dict)
    boot_id: str | None = None
    bmc_url: str = ""
    power: Power = Power.UNKNOWN
    power_wanted: str | None = None
    power_seen_at: float = 0.0
    firmware: Firmware = Firmware.UNKNOWN
    arch: str = "x86_64"
    system_uuid: str | None = None
    serial: str | None = None
    resource_class: str = "baremetal"
    traits: tuple[str, ...] = ()
    labels: dict[str, str] = field(default_factory=dict)
    properties: dict[str, Any] = field(default_factory=dict)
    root_device: dict[str, Any] = field(default_factory=dict)
    image_id: str | None = None
    config: dict[str, Any] = field(default_factory=dict)
    extra: dict[str, Any] = field(default_factory=dict)
    maintenance: str | None = None
    protected: bool = False
    retired: bool = False
    created_at: float = 0.0
    updated_at: float = 0.0
    state_since: float = 0.0


@dataclass(frozen=True)
class Port:
    """A NIC of a node. `mac` is lower case with colons. `extra` is what other tools' APIs keep beside it."""

    mac: str
    node_id: str
    pxe_enabled: bool = True
    address: str | None = None
    physical_network: str | None = None
    name: str | None = None
    extra: dict[str, Any] = field(default_factory=dict)
