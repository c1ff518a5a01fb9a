"""Ironic's /v1/nodes over our model: records, states, power, maintenance, traits, boot device, history."""

from __future__ import annotations

import dataclasses
from typing import Any

from fastapi import APIRouter, Request, Response
from sqlalchemy.engine import Connection

from baremetal import lifecycle
from baremetal.api.ironic import drivers, fields, jsonpatch
from baremetal.api.ironic.common import Asked, answer, ask_of, base_of, body_of, node_of, paged
from baremetal.api.ironic.version import Refusal
from baremetal.api.native.nodes import ask_one
from baremetal.bmc.base import BootDevice
from baremetal.errors import BaremetalError, Refused
from baremetal.lifecycle import Verb
from baremetal.model.event import Kind
from baremetal.model.node import Node
from baremetal.secrets import Secret
from baremetal.store import events, inventories, nodes, ports, secrets
from baremetal.workflows import checks, ids, registry

router = APIRouter(tags=["ironic"], include_in_schema=False)

POWER = {
    "power on": "on",
    "power off": "off",
    "rebooting": "reboot",
    "soft power off": "soft-off",
    "soft rebooting": "reboot",
}
DIRECT = ("name", "resource_class", "properties")
READ_ONLY = {"uuid", "provision_state", "power_state", "links", "created_at", "updated_at", "traits", "last_error"}


@router.post("/nodes", status_code=201)
async def create(request: Request) -> Response:
    """A node, enrolled; its BMC is asked at `manage`."""
    asked, body = ask_of(request), await body_of(request)
    if not body.get("driver"):
        raise Refusal(400, "Missing mandatory parameter: driver")
    unknown = set(body) - {*fields.KEPT, *DIRECT, "uuid"}
    if unknown:
        raise Refusal(400, f"Unknown attribute(s): {', '.join(sorted(unknown))}")
    node_id = str(body.get("uuid") or ids.node_id())
    url, password = drivers.bmc_of(str(body["driver"]), body.get("driver_info") or {}, node_id)
    ours = {"name": body.get("name") or node_id, "bmc_url": url, "manage": False}
    ours |= {k: body[k] for k in ("resource_class", "properties") if body.get(k) is not None}
    if password is not None:
        ours["password"] = password
    kept = {k: body[k] for k in fields.KEPT if k in body}
    kept["driver_info"] = drivers.masked(kept.get("driver_info") or {})
    con, now = asked.con, asked.con.clock.now()

    def write(conn: Connection) -> Node:
        if nodes.find(conn, node_id):
            raise Refusal(409, f"A node with UUID {node_id} already exists.")
        return registry.enroll(
            conn, con.world, con.signer, ours, asked.who, now, node_id=node_id, extra={"ironic": kept}
        )

    node = await con.write(write)
    con.touched(node.id)
    doc = fields.node_doc(node, base_of(request), asked.minor)
    return answer(asked, doc, 201, {"Location": f"{base_of(request)}/v1/nodes/{node.id}"})


@router.get("/nodes")
async def list_short(request: Request) -> Response:
    """Six fields, or those asked for."""
    asked = ask_of(request)
    names = request.query_params.get("fields")
    wanted = names.split(",") if names else None
    if wanted:
        _known_fields(wanted, asked)
    detail = request.query_params.get("detail", "").lower() in ("true", "1")
    return await paged(request, asked, lambda doc: doc if detail else fields.chosen(doc, wanted))


@router.get("/nodes/detail")
async def list_detail(request: Request) -> Response:
    """All fields."""
    return await paged(request, ask_of(request), lambda doc: doc)


@router.get("/nodes/{ident}")
async def get(ident: str, request: Request) -> Response:
    """By UUID or name."""
    asked = ask_of(request)
    doc = fields.node_doc(node_of(asked, ident), base_of(request), asked.minor)
    names = request.query_params.get("fields")
    if names:
        _known_fields(names.split(","), asked)
        doc = fields.chosen(doc, names.split(","))
    return answer(asked, doc)


def _known_fields(names: list[str], asked: Asked) -> None:
    sample = fields.node_doc(Node("0", "0"), "", asked.minor)
    unknown = [n for n in names if n not in sample]
    if unknown:
        raise Refusal(400, f'Field(s) "{", ".join(unknown)[:200]}" are not valid.')


@router.patch("/nodes/{ident}")
async def patch(ident: str, request: Request) -> Response:
    """JSON patch."""
    asked = ask_of(request)
    change = await body_of(request, kind=list)
    con, now, base = asked.con, asked.con.clock.now(), base_of(request)

    def write(conn: Connection) -> Node:
        node = nodes.get(conn, ident)
        before = fields.node_doc(node, base, 110)
        after = jsonpatch.apply(before, change)
        changed = {k: after.get(k) for k in {*before, *after} if before.get(k) != after.get(k)}
        return _take(conn, asked, node, changed, after, now)

    node = await con.write(write)
    con.touched(node.id)
    return answer(asked, fields.node_doc(node, base, asked.minor))


def _take(
    conn: Connection, asked: Asked, node: Node, changed: dict[str, Any], after: dict[str, Any], now: float
) -> Node:
    """Store what the patch changed."""
    wrong = set(changed) & READ_ONLY or set(changed) - {*fields.KEPT, *DIRECT, "maintenance", "protected", "retired"}
    if wrong:
        raise Refusal(400, f"Attribute(s) {', '.join(sorted(wrong))} can't be changed")
    if "instance_uuid" in changed and changed["instance_uuid"] and node.extra.get("ironic", {}).get("instance_uuid"):
        raise Refusal(409, f"Node {node.id} is associated with an instance already.")
    kept = {k: v for k, v in changed.items() if k in fields.KEPT}
    new = node
    if "driver_info" in changed or "driver" in changed:
        url, password = drivers.bmc_of(str(after.get("driver")), after.get("driver_info") or {}, node.id)
        new = dataclasses.replace(new, bmc_url=url)
        kept["driver_info"] = drivers.masked(after.get("driver_info") or {})
        if password is not None:
            secrets.put(conn, asked.con.world.operator, node.id, secrets.BMC_PASSWORD, Secret(password), now)
    if kept:
        new = fields.keep(new, **kept)
    if "name" in changed:
        name = changed["name"] or node.id
        if nodes.find(conn, str(name)) not in (None, node):
            raise Refusal(409, f"A node with name {name} already exists.")
        new = dataclasses.replace(new, name=registry.checked_name(name))
    if "resource_class" in changed:
        new = dataclasses.replace(new, resource_class=str(changed["resource_class"] or "baremetal"))
    if "properties" in changed:
        bmc = {"bmc": node.properties["bmc"]} if "bmc" in node.properties else {}
        new = dataclasses.replace(new, properties={**(changed["properties"] or {}), **bmc})
    for flag in ("protected", "retired"):
        if flag in changed:
            new = dataclasses.replace(new, **{flag: bool(changed[flag])})  # type: ignore[arg-type]
    return nodes.save(conn, node, new, now)


@router.delete("/nodes/{ident}", status_code=204)
async def delete(ident: str, request: Request) -> Response:
    """Ironic's rule on states."""
    asked = ask_of(request)
    now = asked.con.clock.now()
    node = node_of(asked, ident)
    await asked.con.write(lambda c: registry.delete(c, node.id, asked.who, now, force=bool(node.maintenance)))
    asked.con.touched(node.id)
    return answer(asked, None, 204)


@router.get("/nodes/{ident}/states")
async def states(ident: str, request: Request) -> Response:
    """The state fields."""
    asked = ask_of(request)
    doc = fields.node_doc(node_of(asked, ident), base_of(request), asked.minor)
    names = ("console_enabled", "last_error", "power_state", "provision_state", "provision_updated_at")
    more = (
        "raid_config",
        "target_power_state",
        "target_provision_state",
        "target_raid_config",
        "boot_mode",
        "secure_boot",
    )
    return answer(asked, {k: doc[k] for k in (*names, *more) if k in doc})


@router.put("/nodes/{ident}/states/provision", status_code=202)
async def provision(ident: str, request: Request) -> Response:
    """A verb; arguments of a deploy come from instance_info."""
    asked, body = ask_of(request), await body_of(request)
    node = node_of(asked, ident)
    target = str(body.get("target") or "")
    try:
        verb = lifecycle.parse_verb(target)
    except BaremetalError:
        raise Refusal(400, f'The requested action "{target[:40]}" can not be performed on node: unknown') from None
    try:
        await ask_one(asked.con, node.id, verb, _arguments(node, verb, body), asked.who)
    except Refused as exc:
        if node.wanted:
            raise Refusal(409, f"Node {node.id} is locked by host baremetal: {exc.brief}") from exc
        state = lifecycle.provision_state(node)
        text = (
            f'The requested action "{target}" can not be performed on node "{node.id}" while it is in state "{state}".'
        )
        raise Refusal(400, f"{text} {exc.detail or exc.brief}") from exc
    return answer(asked, None, 202, {"Location": f"{base_of(request)}/v1/nodes/{node.id}/states"})


def _arguments(node: Node, verb: Verb, body: dict[str, Any]) -> dict[str, Any]:
    args: dict[str, Any] = {}
    kept = node.extra.get("ironic", {}).get("instance_info") or {}
    if verb in (Verb.DEPLOY, Verb.REBUILD):
        image = kept.get("image_source") or (node.image_id if verb is Verb.REBUILD else None)
        if not image:
            raise Refusal(
                400, f"Cannot validate image information for node {node.id}: instance_info.image_source is missing"
            )
        args["image"] = str(image).removeprefix("baremetal:")
        drive = body.get("configdrive", kept.get("configdrive"))
        if isinstance(drive, dict):
            args["config_drive"] = {k: drive[k] for k in ("meta_data", "user_data", "network_data") if k in drive}
        hints = kept.get("root_device") or node.properties.get("root_device")
        if isinstance(hints, dict):
            args["root_device"] = hints
    for key in ("clean_steps", "deploy_steps", "service_steps"):
        if body.get(key):
            args["steps"] = body[key]
    return args


@router.put("/nodes/{ident}/states/power", status_code=202)
async def power(ident: str, request: Request) -> Response:
    """A power wish."""
    asked, body = ask_of(request), await body_of(request)
    target = POWER.get(str(body.get("target")))
    if target is None:
        raise Refusal(400, f"Invalid power state: {str(body.get('target'))[:40]}. Valid: {', '.join(POWER)}")
    node = node_of(asked, ident)
    await ask_one(asked.con, node.id, f"power-{target}", {}, asked.who)
    return answer(asked, None, 202)


@router.put("/nodes/{ident}/maintenance", status_code=202)
async def set_maintenance(ident: str, request: Request) -> Response:
    """With its reason."""
    asked, body = ask_of(request), await body_of(request)
    return await _maintenance(asked, ident, str(body.get("reason") or "set over the API"))


@router.delete("/nodes/{ident}/maintenance", status_code=202)
async def end_maintenance(ident: str, request: Request) -> Response:
    """Over."""
    return await _maintenance(ask_of(request), ident, None)


async def _maintenance(asked: Asked, ident: str, reason: str | None) -> Response:
    now, con = asked.con.clock.now(), asked.con
    node = await con.write(lambda c: registry.change(c, con.world, con.signer, ident, {"maintenance": reason}, now))
    con.touched(node.id)
    return answer(asked, None, 202)


@router.get("/nodes/{ident}/validate")
async def validate(ident: str, request: Request) -> Response:
    """Each interface: true, or why not."""
    asked = ask_of(request)
    node = node_of(asked, ident)
    con = asked.con
    found = con.store.read(lambda c: (ports.of_node(c, node.id), inventories.get(c, node.id)))
    facts = checks.Facts(con.world, node, found[0], found[1][1] if found[1] else None, None, None)
    ramdisk = {c["name"]: c for c in await checks.run("pre-enroll", facts)}["ramdisk-there"]
    info = node.extra.get("ironic", {}).get("instance_info") or {}
    no_image = None if info.get("image_source") else "instance_info.image_source is missing"
    no_bmc = None if node.bmc_url else "driver_info has no BMC address"
    no_ramdisk = ramdisk["reason"] if ramdisk["verdict"] == "fail" else None
    reasons = {"power": no_bmc, "management": no_bmc, "boot": no_ramdisk, "deploy": no_image or no_ramdisk}
    names = ("bios", "console", "firmware", "inspect", "network", "raid", "rescue", "storage")
    doc = {name: _validity(reasons[name]) for name in reasons} | {name: _validity(None) for name in names}
    return answer(asked, doc)


def _validity(reason: str | None) -> dict[str, Any]:
    return {"result": reason is None, "reason": reason} if reason else {"result": True}


@router.get("/nodes/{ident}/traits")
async def get_traits(ident: str, request: Request) -> Response:
    """All of them."""
    asked = ask_of(request)
    return answer(asked, {"traits": list(node_of(asked, ident).traits)})


@router.put("/nodes/{ident}/traits", status_code=204)
async def put_traits(ident: str, request: Request) -> Response:
    """Replace them."""
    asked, body = ask_of(request), await body_of(request)
    return await _traits(asked, ident, lambda _: body.get("traits") or [])


@router.put("/nodes/{ident}/traits/{trait}", status_code=204)
async def put_trait(ident: str, trait: str, request: Request) -> Response:
    """One more."""
    return await _traits(ask_of(request), ident, lambda old: [*old, trait])


@router.delete("/nodes/{ident}/traits", status_code=204)
async def delete_traits(ident: str, request: Request) -> Response:
    """None."""
    return await _traits(ask_of(request), ident, lambda _: [])


@router.delete("/nodes/{ident}/traits/{trait}", status_code=204)
async def delete_trait(ident: str, trait: str, request: Request) -> Response:
    """One less."""
    return await _traits(ask_of(request), ident, lambda old: [t for t in old if t != trait])


async def _traits(asked: Asked, ident: str, new: Any) -> Response:
    now, con = asked.con.clock.now(), asked.con

    def write(conn: Connection) -> Node:
        traits = new(nodes.get(conn, ident).traits)
        return registry.change(conn, con.world, con.signer, ident, {"traits": traits}, now)

    con.touched((await con.write(write)).id)
    return answer(asked, None, 204)


@router.get("/nodes/{ident}/ports")
async def node_ports(ident: str, request: Request) -> Response:
    """NICs of this node."""
    asked = ask_of(request)
    node = node_of(asked, ident)
    found = asked.con.store.read(lambda c: ports.of_node(c, node.id))
    return answer(asked, {"ports": [fields.port_doc(p, base_of(request), node.created_at) for p in found]})


@router.get("/nodes/{ident}/inventory")
async def inventory(ident: str, request: Request) -> Response:
    """What the last inspection found."""
    asked = ask_of(request)
    node = node_of(asked, ident)
    found = asked.con.store.read(lambda c: inventories.get(c, node.id))
    if found is None:
        raise Refusal(404, f"Node {node.id} has no inventory.")
    return answer(asked, {"inventory": found[1], "plugin_data": {}})


@router.get("/nodes/{ident}/history")
async def history(ident: str, request: Request) -> Response:
    """Faults and states."""
    asked = ask_of(request)
    node = node_of(asked, ident)
    kinds = [str(k) for k in (Kind.STATE, Kind.FAULT, Kind.VERB)]
    told = asked.con.store.read(lambda c: events.of_node(c, node.id, kinds=kinds, limit=300))
    docs: list[dict[str, Any]] = [
        {
            "uuid": e.id,
            "created_at": fields.when(e.time),
            "severity": "ERROR" if e.kind is Kind.FAULT else "INFO",
            "event_type": str(e.kind),
            "event": f"{e.stage}: {e.data.get('brief') or e.data.get('from') or ''}".rstrip(": "),
            "user": e.source,
            "conductor": "baremetal",
            "links": [],
        }
        for e in told
    ]
    return answer(asked, {"history": docs})


@router.get("/nodes/{ident}/management/boot_device")
async def get_boot_device(ident: str, request: Request) -> Response:
    """Asked of the BMC."""
    asked = ask_of(request)
    plan = await asked.con.world.driver(node_of(asked, ident)).get_boot()
    return answer(
        asked,
        {"boot_device": None if plan.device is BootDevice.NONE else str(plan.device), "persistent": not plan.once},
    )


@router.put("/nodes/{ident}/management/boot_device", status_code=204)
async def put_boot_device(ident: str, request: Request) -> Response:
    """Set at the BMC."""
    asked, body = ask_of(request), await body_of(request)
    node = node_of(asked, ident)
    if node.wanted:
        raise Refusal(409, f"Node {node.id} is locked by host baremetal: {node.wanted} is under way.")
    try:
        device = BootDevice(str(body.get("boot_device")))
    except ValueError:
        raise Refusal(400, f"Invalid boot device {str(body.get('boot_device'))[:40]} specified.") from None
    await asked.con.world.driver(node).set_boot(device, once=not body.get("persistent", False))
    return answer(asked, None, 204)


@router.get("/nodes/{ident}/management/boot_device/supported")
async def supported(ident: str, request: Request) -> Response:
    """What a BMC can be told."""
    asked = ask_of(request)
    node_of(asked, ident)
    return answer(asked, {"supported_boot_devices": ["pxe", "disk", "cdrom", "bios", "safe"]})


@router.get("/nodes/{ident}/vifs")
async def vifs(ident: str, request: Request) -> Response:
    """The noop network has none."""
    asked = ask_of(request)
    node_of(asked, ident)
    return answer(asked, {"vifs": []})
