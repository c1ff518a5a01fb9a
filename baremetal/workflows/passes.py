"""The hands of one pass: what it sees, what it may change, and the BMC with ownership checked first.

A pass reads this object, does at most one thing to the machine, and answers an
Outcome; runner.py stores everything it changed here in one transaction.
"""

from __future__ import annotations

import dataclasses
import functools
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Protocol, TypeVar

from sqlalchemy.engine import Connection

from baremetal.bmc.base import BmcDriver, BootDevice, BootPlan, Identity, PowerOp
from baremetal.bmc.faults import BmcError, BmcLied
from baremetal.bmc.tlspin import with_pin
from baremetal.errors import Refused
from baremetal.model.event import Event, Kind
from baremetal.model.node import Node, Port, Power
from baremetal.secrets import Secret
from baremetal.store import Fenced, Store, boots, nodes, orders, ports, secrets
from baremetal.store.boots import Boot
from baremetal.store.orders import OrderRow
from baremetal.store.seal import Sealer
from baremetal.workflows import ids, whose
from baremetal.workflows.metadata import Signer
from baremetal.workflows.outcome import Wait
from baremetal.workflows.policy import Policy
from baremetal.workflows.site import Images, Site

T = TypeVar("T")


class Drivers(Protocol):
    """Where BMC drivers come from: bmc.pool.BmcPool, or a simulation."""

    def driver(self, url: str, password: Secret) -> BmcDriver:
        """The driver for this BMC."""
        ...


@dataclasses.dataclass
class World:
    """What all passes share. `site` is replaced when networks or artifacts change."""

    store: Store
    operator: Sealer
    metadata: Sealer
    signing_pem: bytes
    site: Site
    policy: Policy
    drivers: Drivers
    images: Images
    now: Callable[[], float]
    # Raises when this server may not act now: others may have taken over what it does (engine/lease.py).
    may: Callable[[], None] = lambda: None
    # Which nodes at rest are this server's to look at; asked in a thread.
    share: Callable[[], Callable[[str], bool]] = lambda: lambda _node: True
    _drivers: dict[str, tuple[str, BmcDriver]] = dataclasses.field(default_factory=dict)

    @functools.cached_property
    def signer(self) -> Signer:
        """Signs orders to ramdisks, with the key that signs metadata."""
        return Signer(self.signing_pem)

    def driver(self, node: Node) -> BmcDriver:
        """The node's BMC; its password is opened once, until forget()."""
        need_bmc(node)
        known = self._drivers.get(node.id)
        if known and known[0] == node.bmc_url:
            return known[1]
        password = self.store.read(lambda c: secrets.get(c, self.operator, node.id, secrets.BMC_PASSWORD))
        seen = (node.properties.get("bmc") or {}).get("tls_sha256")  # kept when the BMC was verified
        made = self.drivers.driver(with_pin(node.bmc_url, seen), password or Secret(""))
        self._drivers[node.id] = (node.bmc_url, made)
        return made

    def forget_all(self) -> None:
        """Any of them may have changed."""
        self._drivers.clear()

    def forget(self, node_id: str) -> None:
        """Its BMC address or password may have changed, or the node is gone."""
        self._drivers.pop(node_id, None)


class NoBmc(Refused):
    """Nobody said where the node's BMC is."""

    code = "no-bmc"


def need_bmc(node: Node) -> None:
    """Raise NoBmc, with the way out."""
    if not node.bmc_url:
        raise NoBmc(f"{node.name} has no BMC address", fix=f"baremetal node set {node.name} --bmc ipmi://user@address")


class StoreFirst(Exception):
    """What was decided must be stored before the machine is touched."""


class Pass:
    """One look at one node.

    `boots` and `order` follow what the pass decides, so that the next step may
    begin in the same pass and be stored in the same transaction. `touched`: a
    command went to the machine; nothing more may be decided before it is stored.
    """

    def __init__(self, world: World, node: Node, live: Mapping[str, Boot], order: OrderRow | None) -> None:
        self.world = world
        self.before = node
        self.node = node
        self.boots = dict(live)
        self.order = order
        self.touched = False
        self._unseen = False  # a write whose result this pass cannot see
        self.now = world.now()
        self.events: list[Event] = []
        self.writes: list[Callable[[Connection], Any]] = []

    @functools.cached_property
    def ports(self) -> list[Port]:
        """The node's NICs."""
        return self.world.store.read(lambda c: ports.of_node(c, self.node.id))

    @property
    def ports_read(self) -> list[Port] | None:
        """The NICs if they are at hand and this pass did not change them; None: read them again."""
        return None if self._unseen else vars(self).get("ports")

    @property
    def by_hand(self) -> bool:
        """No BMC: a person does what we say, and confirms it."""
        return self.node.bmc_url.startswith("manual:")

    @property
    def policy(self) -> Policy:
        """Times and limits."""
        return self.world.policy

    @property
    def site(self) -> Site:
        """Addresses and artifacts."""
        return self.world.site

    @property
    def ramdisk(self) -> Boot | None:
        """The node's live ramdisk boot."""
        return self.boots.get("ramdisk")

    @property
    def instance(self) -> Boot | None:
        """The live deployment's boot record."""
        return self.boots.get("instance")

    @property
    def work(self) -> dict[str, Any]:
        """The workflow's notebook; change it by jot()."""
        return self.node.work

    # -- what a pass may change ----------------------------------------------

    def change(self, **columns: Any) -> None:
        """Set fields of the node."""
        self.node = dataclasses.replace(self.node, **columns)

    def jot(self, **entries: Any) -> None:
        """Write into the notebook; None strikes an entry out."""
        work = {**self.node.work, **entries}
        self.change(work={k: v for k, v in work.items() if v is not None})

    @property
    def here(self) -> dict[str, Any]:
        """The notebook page of the current step; it is torn out when the step ends."""
        page: dict[str, Any] = self.node.work.get("here") or {}
        return page

    def note(self, **entries: Any) -> None:
        """Write on the current step's page; None strikes an entry out."""
        page = {**self.here, **entries}
        self.jot(here={k: v for k, v in page.items() if v is not None} or None)

    def also(self, write: Callable[[Connection], Any]) -> None:
        """Store this too, in the same transaction. It may run twice before it is committed once."""
        self.writes.append(write)
        self._unseen = True

    @property
    def may_go_on(self) -> bool:
        """May the next step begin before this is stored? Not after a command to the machine, nor after `also`."""
        return not self.touched and not self._unseen

    def begin_boot(self, boot: Boot) -> None:
        """A new boot; the node's earlier one for the same purpose ends."""
        self.writes.append(lambda c: boots.insert(c, boot))
        self.boots[boot.purpose] = boot

    def change_boot(self, boot: Boot, **columns: Any) -> None:
        """Write these columns of a live boot."""
        self.writes.append(lambda c: boots.change(c, boot.id, **columns))
        if boot.purpose in self.boots:
            self.boots[boot.purpose] = dataclasses.replace(self.boots[boot.purpose], **columns)

    def end_boot(self, purpose: str) -> None:
        """Its token and nonce are dead."""
        now = self.now
        self.writes.append(lambda c: boots.end(c, self.node.id, now, purpose))
        self.boots.pop(purpose, None)

    def give_order(self, order: OrderRow) -> None:
        """In the agent's hands as soon as it is stored."""
        self.writes.append(lambda c: orders.insert(c, order))
        self.order = order
        self.jot(order=order.id)

    def drop_order(self) -> None:
        """No order is in the agent's hands any more."""
        if self.work.get("order"):
            now = self.now
            self.writes.append(lambda c: orders.withdraw(c, self.node.id, now))
        self.order = None
        self.jot(order=None)

    def event(self, kind: Kind, stage: str, *, source: str = "control", outcome: str = "ok", **more: Any) -> None:
        """Note a fact for the timeline."""
        boot_id = more.pop("boot_id", self.node.boot_id)
        self.events.append(
            Event(
                ids.ulid(self.now),
                self.now,
                self.node.id,
                kind,
                stage,
                source,
                outcome,
                boot_id,
                self.before.fence,
                **more,
            )
        )

    def wait(self, topic: str, because: str, for_s: float, look_s: float | None = None) -> Wait | None:
        """Wait for `topic`; None when that was waited for long enough."""
        until = self.now + for_s
        if self.work.get("topic") == topic and self.node.wait:
            until = self.node.wait.until
            if self.now >= until:
                return None
        return Wait(because, until, topic, look_s)

    # -- the machine ----------------------------------------------------------

    async def power(self) -> Power:
        """As the BMC sees it now."""
        seen = await self._ask("power", lambda bmc: bmc.power(), quiet=True)
        if seen is not self.node.power:
            self.event(Kind.POWER, str(seen), source="bmc", data={"was": str(self.node.power)})
        self.change(power=seen, power_seen_at=self.now)
        return seen

    def store_first(self) -> None:
        """Nothing decided here may be lost once the machine moves: store it before going on."""
        if self.writes:
            raise StoreFirst

    async def press(self, op: PowerOp) -> None:
        """Press the power button. Only "on", "off" and "soft" exist here: a repeat must be harmless."""
        if op not in (PowerOp.ON, PowerOp.OFF, PowerOp.SOFT):
            raise ValueError(f"{op} may not be repeated safely")
        await self.prove()
        self.touch()
        await self._ask(f"power {op}", lambda bmc: bmc.set_power(op))

    async def boot_from(self, device: BootDevice, *, once: bool) -> BootPlan:
        """Set the next boot and read back what was really set."""
        if self.by_hand:  # said together with the power button: machine.py
            return BootPlan(device, once=once)
        self.store_first()
        await self.prove()
        self.touch()
        uefi = {"uefi": True, "bios": False}.get(str(self.node.firmware))
        plan = await self._ask(f"boot {device}", lambda bmc: bmc.set_boot(device, once=once, uefi=uefi))
        if plan.device not in (device, BootDevice.OTHER):
            raise BmcLied(
                f"{self.node.name}: the BMC took boot device {device} and shows {plan.device}",
                detail=repr(plan),
                fix="its firmware may forbid overrides; set network first, then disk in the firmware setup",
            )
        return plan

    async def prove(self) -> None:
        """Is it still our machine? Asked once after the BMC's address was changed, before anything is done to it."""
        if self.by_hand or whose.PROOF in self.node.properties or not self.node.system_uuid:
            return
        who = await self.identify()
        whose.check(self.node, who)
        self.change(properties={**self.node.properties, whose.PROOF: whose.proof(who)})

    async def identify(self) -> Identity:
        """Who the BMC says it is."""
        return await self._ask("identify", lambda bmc: bmc.identify())

    async def reset_bmc(self) -> None:
        """Restart the BMC itself."""
        await self.prove()
        self.touch()
        await self._ask("reset-bmc", lambda bmc: bmc.reset_bmc())

    def touch(self) -> None:
        """The machine is given a command now."""
        self.own()
        self.touched = True

    def own(self) -> None:
        """Still the one who decides about this node? Checked just before the machine is touched."""
        self.world.may()
        if self.world.store.read(lambda c: nodes.fence(c, self.node.id)) != self.before.fence:
            raise Fenced(f"{self.node.name} was changed meanwhile")

    def driver(self) -> BmcDriver:
        """The node's BMC."""
        return self.world.driver(self.node)

    async def _ask(self, what: str, ask: Callable[[BmcDriver], Awaitable[T]], *, quiet: bool = False) -> T:
        begun = time.monotonic()
        self.world.may()
        try:
            answer = await ask(self.driver())
        except BmcError as exc:
            self._bmc_event(what, begun, "failed", fault_code=exc.code, data={"brief": exc.brief[:300]})
            raise
        if not quiet:
            self._bmc_event(what, begun, "ok")
        return answer

    def _bmc_event(self, what: str, begun: float, outcome: str, **more: Any) -> None:
        spent = int((time.monotonic() - begun) * 1000)
        self.now = self.world.now()
        tries: list[Any] = getattr(self.driver(), "attempts_since", lambda _: [])(begun)
        if len(tries) > 1:  # each try with its outcome: what the BMC was asked, and how often
            more["data"] = {**more.get("data", {}), "attempts": tries[-8:]}
        self.event(Kind.BMC, what, source="bmc", outcome=outcome, duration_ms=spent, **more)
