"""What the boot plane may know, made from the store: one NodeView a node, pushed when it changed."""

from __future__ import annotations

import asyncio
import dataclasses
import functools
import json
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any

from sqlalchemy.engine import Connection

from baremetal import lifecycle
from baremetal.lifecycle import Phase
from baremetal.model.boot import BootRecord, Purpose
from baremetal.model.node import Node, Port, State
from baremetal.protocol import agent
from baremetal.protocol.plane import NodeView, Snapshot
from baremetal.store import StoreError, boots, metadata, nodes, orders, ports, whole
from baremetal.store.boots import Boot
from baremetal.store.metadata import StoredDocument
from baremetal.store.orders import OrderRow
from baremetal.store.seal import Sealer
from baremetal.workflows.metadata import Signer
from baremetal.workflows.passes import World
from baremetal.workflows.site import Site, image_key

Push = Callable[[list[NodeView], list[str]], None]
FEW = 20  # nodes looked at one by one; more together
MANY = 100  # views in one push: the boot plane serves the first while we write down the rest
ON_DISK = (State.ACTIVE, State.ADOPTING, State.UNRESCUING)
ON_DISK_STEPS = (
    "deploy.boot_instance",
    "deploy.first_boot",
    "service.power_on",
    "service.boot_device",
    "deploy.tear_down_agent",
    "diskless.boot_device",
    "diskless.power_on",
    "diskless.fetched",
)


def boot_record(node: Node, node_ports: list[Port], ramdisk: Boot | None, site: Site) -> BootRecord:
    """What this node boots from the network, and why."""
    purpose, because = purpose_of(node, ramdisk)
    names = site.ramdisk(node.arch) if purpose is Purpose.RAMDISK else None
    run = site.netboot.get(node.image_id or "")
    if purpose is Purpose.DISK and run:
        purpose, names = Purpose.NETBOOT, run
        because = f"{node.name} is {node.state}: it runs its image from the network"
    return BootRecord(
        node_id=node.id,
        name=node.name,
        macs=tuple(port.mac for port in node_ports if port.pxe_enabled),
        uuid=node.system_uuid,
        purpose=purpose,
        because=because,
        boot_id=ramdisk.id if ramdisk and purpose is Purpose.RAMDISK else None,
        address=next((port.address for port in node_ports if port.address), None),
        kernel=names.kernel if names else None,
        initrd=names.initrd if names else None,
        cmdline=_cmdline(names.cmdline, purpose, site) if names else "",
        secure_boot=bool(node.properties.get("secure_boot")),
        # The switch port that it hangs on, as the relay says it (option 82): names the machine whatever its MAC.
        extra={"circuit": str(node.properties["circuit"])} if node.properties.get("circuit") else {},
    )


def _cmdline(base: str, purpose: Purpose, site: Site) -> str:
    """Kernel arguments; a ramdisk hears of the site's other servers, to ask them when this one is away."""
    others = [url for url in site.peers if url != site.https_url]
    if purpose is not Purpose.RAMDISK or not others:
        return base
    return f"{base} baremetal.also={','.join(others)}".strip()


def purpose_of(node: Node, ramdisk: Boot | None) -> tuple[Purpose, str]:
    """Ramdisk while a ramdisk boot lives, disk while something is deployed, else nothing."""
    if ramdisk is not None:
        return Purpose.RAMDISK, f"{node.wanted or node.state} needs the ramdisk"
    if node.state in ON_DISK or (node.state is State.DEPLOYING and node.step in ON_DISK_STEPS):
        return Purpose.DISK, f"{node.name} is {node.state}: it boots its own disk"
    if node.state is State.SERVICING and node.step in ON_DISK_STEPS:
        return Purpose.DISK, f"{node.name} goes back to its own disk"
    if lifecycle.phase(node) is Phase.FAILED:
        why = node.fault.code if node.fault else "failed"
        return (
            Purpose.NONE,
            f"{node.name} is {lifecycle.provision_state(node)} ({why}): nothing to boot until a verb asks",
        )
    return Purpose.NONE, f"{node.name} is {node.state}: no verb asked for a network boot"


def node_view(
    node: Node,
    node_ports: list[Port],
    live: dict[str, Boot],
    order: OrderRow | None,
    document: StoredDocument | None,
    world: World,
) -> NodeView:
    """All the boot plane may know of one node."""
    ramdisk, instance = live.get(boots.RAMDISK), live.get(boots.INSTANCE)
    key = (
        world.operator.open(ramdisk.nonce_key, ramdisk.id, "nonce-key").reveal()
        if ramdisk and ramdisk.nonce_key
        else None
    )
    meta = None
    if document:
        meta = {"generation": document.generation, "document": document.text, "signature": document.signature}
    return NodeView(
        node=node.id,
        name=node.name,
        boot=dict(vars(boot_record(node, node_ports, ramdisk, world.site))),
        nonce_key=key if ramdisk and ramdisk.hello_at is None else None,
        ramdisk_token_sha256=ramdisk.token_sha256 if ramdisk else None,
        instance_token_sha256=instance.token_sha256 if instance else None,
        order=order_doc(order, ramdisk, world.metadata, world.signer),
        metadata=meta,
    )


def order_doc(order: OrderRow | None, ramdisk: Boot | None, sealer: Sealer, signer: Signer) -> dict[str, Any] | None:
    """The order in the agent's hands, with its config drive opened; signed when it may change the machine."""
    if order is None or order.outcome is not None or ramdisk is None or order.boot_id != ramdisk.id:
        return None
    args = dict(order.args)
    if args.get("config_drive"):
        args["config_drive"] = sealer.open(args["config_drive"], order.node_id, "config-drive").reveal()
    doc = {"id": order.id, "kind": order.kind, "args": args}
    if order.kind in agent.SIGNED:
        doc["signature"] = signer.sign(agent.signed_text(agent.Order(order.id, order.kind, args), ramdisk.id))
    return doc


def view_of(conn: Connection, world: World, node_id: str) -> NodeView | None:
    """The view of one node as stored now; None when it is gone."""
    node = nodes.find(conn, node_id)
    if node is None:
        return None
    live = boots.live(conn, node_id)
    order = orders.get(conn, node.work.get("order"))
    document = metadata.get_document(conn, world.metadata, node_id) if boots.INSTANCE in live else None
    return node_view(node, ports.of_node(conn, node_id), live, order, document, world)


def view_from(
    conn: Connection,
    world: World,
    node: Node,
    live: dict[str, Boot],
    order: OrderRow | None,
    known: list[Port] | None = None,
) -> NodeView:
    """The view of a node whose row, boots and order are at hand, perhaps its ports too."""
    document = metadata.get_document(conn, world.metadata, node.id) if boots.INSTANCE in live else None
    return node_view(node, ports.of_node(conn, node.id) if known is None else known, live, order, document, world)


def whole_views(conn: Connection, world: World, node_ids: Collection[str]) -> dict[str, NodeView]:
    """The views of these nodes, those that exist, with one query to PostgreSQL."""
    return {
        i: node_view(w.node, w.ports, w.boots, w.order, w.document(world.metadata), world)
        for i, w in whole.read(conn, node_ids).items()
    }


def all_views(conn: Connection, world: World, only: Collection[str] | None = None) -> list[NodeView]:
    """The views of all nodes, or of these, with five queries."""
    by_node, live, open_orders = ports.of_nodes(conn), boots.all_live(conn), orders.unfinished(conn)
    shown = frozenset(live if only is None else only)
    deployed = [n for n, runs in live.items() if boots.INSTANCE in runs and n in shown]
    documents = metadata.all_documents(conn, world.metadata, deployed)
    return [
        node_view(
            n, by_node.get(n.id, []), live.get(n.id, {}), _current(n, open_orders.get(n.id)), documents.get(n.id), world
        )
        for n in nodes.page(conn, limit=None)
        if only is None or n.id in shown
    ]


def _current(node: Node, order: OrderRow | None) -> OrderRow | None:
    return order if order and order.id == node.work.get("order") else None


class Publisher:
    """Keeps the last pushed view of each node, and pushes what differs."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._seen: dict[str, int] = {}
        self._push: list[Push] = []
        self._turns: dict[str, int] = {}  # node -> how often it was looked at
        self._rounds = 0  # how often all were
        self._heard: set[str] = set()  # another server stored something of these
        self._hearing: asyncio.Task[None] | None = None
        self.version = 0

    def on_push(self, push: Push) -> None:
        """Call this with changed views and the ids of nodes that are gone."""
        self._push.append(push)

    def whole(self) -> Snapshot:
        """Everything, as the boot plane gets it when it connects."""
        self._rounds += 1
        views = self._world.store.read(lambda c: all_views(c, self._world))
        self._seen = {view.node: _mark(view) for view in views}
        site = self._world.site
        return Snapshot(
            networks=[_plain(dataclasses.asdict(network)) for network in site.networks],
            nodes=[view.to_json() for view in views],
            artifacts={name: dict(facts) for name, facts in site.artifacts.items()},
            images={image_key(i.id): str(i.dir) for i in self._world.images.list()},
        )

    def resync(self) -> None:
        """News were missed: look at every node, push what differs."""
        if not self._push:
            return
        self._rounds += 1
        views = {view.node: view for view in self._world.store.read(lambda c: all_views(c, self._world))}
        changed = [view for view in views.values() if self._seen.get(view.node) != _mark(view)]
        gone = [node for node in self._seen if node not in views]
        for node in gone:
            del self._seen[node]
        self._seen |= {view.node: _mark(view) for view in changed}
        if changed or gone:
            self.version += 1
            for push in self._push:
                push(changed, gone)

    def refresh(self, node_ids: Iterable[str]) -> None:
        """Push the views of these nodes that changed since the last push."""
        if not self._push:
            return
        wanted = list(dict.fromkeys(node_ids))
        if not wanted:
            return
        for node_id in wanted:
            self._turns[node_id] = self._turns.get(node_id, 0) + 1
        self._publish(self._look(wanted))

    def heard(self, node_ids: Iterable[str]) -> None:
        """Another server changed these: they are looked at in a thread, all that came meanwhile with one query."""
        if not self._push:
            return
        self._heard.update(node_ids)
        if self._heard and (self._hearing is None or self._hearing.done()):
            self._hearing = asyncio.create_task(self._hear(), name="news-of-others")

    async def _hear(self) -> None:
        while self._heard:
            wanted = list(self._heard)
            self._heard.clear()
            turns, rounds = {node_id: self._turns.get(node_id) for node_id in wanted}, self._rounds
            try:
                found = await self._world.store.fetch(lambda c: whole_views(c, self._world, wanted))  # noqa: B023
            except StoreError:
                self._heard.update(wanted)
                await asyncio.sleep(1.0)
                continue
            # What was looked at meanwhile may be newer than what we read: look again.
            other = self._rounds != rounds
            stale = {node_id for node_id in wanted if other or self._turns.get(node_id) != turns[node_id]}
            self._heard |= stale
            self._publish({node_id: found.get(node_id) for node_id in wanted if node_id not in stale})

    def _publish(self, found: Mapping[str, NodeView | None]) -> None:
        """Push those that differ from what was pushed last."""
        views: list[NodeView] = []
        gone: list[str] = []
        for node_id, view in found.items():
            if view is None:
                if self._seen.pop(node_id, None) is not None:
                    gone.append(node_id)
                continue
            mark = _mark(view)
            if self._seen.get(node_id) != mark:
                self._seen[node_id] = mark
                views.append(view)
            if len(views) == MANY:
                self._tell(views, [])
                views = []
        self._tell(views, gone)

    def show(self, node: Node, live: dict[str, Boot], order: OrderRow | None, known: list[Port] | None = None) -> None:
        """Push the view of this node, as just stored, if it differs."""
        if not self._push:
            return
        view = self._world.store.read(lambda c: view_from(c, self._world, node, live, order, known))
        self._turns[node.id] = self._turns.get(node.id, 0) + 1
        mark = _mark(view)
        if self._seen.get(node.id) != mark:
            self._seen[node.id] = mark
            self._tell([view], [])

    def _tell(self, views: list[NodeView], gone: list[str]) -> None:
        if views or gone:
            self.version += 1
            for push in self._push:
                push(views, gone)

    def _look(self, node_ids: list[str]) -> Mapping[str, NodeView | None]:
        if self._world.store.shared:
            found = self._world.store.read(lambda c: whole_views(c, self._world, node_ids))
            return {node_id: found.get(node_id) for node_id in node_ids}
        if len(node_ids) > FEW:
            many = self._world.store.read(lambda c: {view.node: view for view in all_views(c, self._world, node_ids)})
            return {node_id: many.get(node_id) for node_id in node_ids}
        one = functools.partial(view_of, world=self._world)
        return {i: self._world.store.read(functools.partial(one, node_id=i)) for i in node_ids}


def _mark(view: NodeView) -> int:
    """Tells two views apart without reading through orders and documents: an order id and a signature never lie."""
    order = view.order["id"] if view.order else None
    document = (view.metadata["generation"], view.metadata["signature"]) if view.metadata else None
    tokens = (view.nonce_key, view.ramdisk_token_sha256, view.instance_token_sha256)
    return hash((view.name, repr(view.boot), tokens, order, document))


def _plain(doc: Any) -> Any:
    return json.loads(json.dumps(doc))
