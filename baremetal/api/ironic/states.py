"""States, verbs, power, maintenance, boot device, console and validation of a node."""

from __future__ import annotations

from typing import Any

from baremetal import lifecycle
from baremetal.api.http import Reply
from baremetal.api.ironic import fields, records
from baremetal.api.ironic.common import Asked, answer, node_of, parties, route, typed
from baremetal.api.ironic.version import Refusal
from baremetal.api.native.nodes import ask_one
from baremetal.bmc.base import BootDevice
from baremetal.errors import BaremetalError, Refused
from baremetal.lifecycle import Verb
from baremetal.model.node import Node
from baremetal.store import inventories, ports
from baremetal.workflows import checks, registry
from baremetal.workflows.steps import REGISTRY

POWER = {
    "power on": "on",
    "power off": "off",
    "rebooting": "reboot",
    "soft power off": "soft-off",
    "soft rebooting": "reboot",
}
STATES = (
    "console_enabled",
    "last_error",
    "power_state",
    "provision_state",
    "provision_updated_at",
    "raid_config",
    "target_power_state",
    "target_provision_state",
    "target_raid_config",
    "boot_mode",
    "secure_boot",
)
TEXT = (str,)
PROVISION: dict[str, tuple[type, ...]] = {
    "target": TEXT,
    "configdrive": (dict, str),
    "clean_steps": (list,),
    "deploy_steps": (list,),
    "service_steps": (list,),
    "rescue_password": TEXT,
    "disable_ramdisk": (bool,),
    "runbook": TEXT,
}
# What who leases a node may do with it.
LEASED = (Verb.DEPLOY, Verb.REBUILD, Verb.UNDEPLOY)
# The argument that carries the steps of a verb, and which verbs need one.
STEPS = {Verb.CLEAN: "clean_steps", Verb.SERVICE: "service_steps"}
DRIVE = ("meta_data", "user_data", "network_data", "vendor_data")


@route("GET", "/nodes/{}/states")
async def states(asked: Asked, ident: str) -> Reply:
    """The state fields."""
    doc = fields.node_doc(node_of(asked, ident), asked.base, asked.minor)
    return answer(asked, {k: doc[k] for k in STATES if k in doc})


@route("PUT", "/nodes/{}/states/provision")
async def provision(asked: Asked, ident: str) -> Reply:
    """A verb; arguments of a deploy come from instance_info."""
    body = await asked.body()
    node = node_of(asked, ident)
    target = str(body.get("target") or "")
    if not target:
        raise Refusal(400, "Missing mandatory parameter: target")
    typed("body", body, PROVISION)
    state = lifecycle.provision_state(fields.begun(node))
    text = (
        f'The requested action "{target[:40]}" can not be performed on node "{node.id}" while it is in state "{state}".'
    )
    try:
        verb = lifecycle.parse_verb(target)
    except BaremetalError:
        raise Refusal(400, text) from None
    if asked.project not in (None, parties(node)[0]) and verb not in LEASED:
        raise Refusal(403, f"{asked.project} leases node {node.id}: {verb} is for its owner.")
    arguments = _arguments(asked, node, verb, body)
    try:
        await ask_one(asked.con, node.id, verb, arguments, asked.who)
    except Refused as exc:
        if node.wanted:
            raise Refusal(
                409,
                f"Node {node.id} is locked by host baremetal, please retry after the current operation is completed. "
                f"{exc.brief}",
            ) from exc
        raise Refusal(400, f"{text} {exc.detail or exc.brief}") from exc
    return answer(asked, None, 202, f"nodes/{node.id}/states")


def _arguments(asked: Asked, node: Node, verb: Verb, body: dict[str, Any]) -> dict[str, Any]:
    args: dict[str, Any] = {}
    if verb in (Verb.DEPLOY, Verb.REBUILD):
        args = _deployment(asked, node, verb, body)
    if verb is Verb.RESCUE:
        if not body.get("rescue_password"):
            raise Refusal(400, "A non-empty rescue_password is required when setting target provision state to rescue.")
        args["password"] = body["rescue_password"]
    key = STEPS.get(verb)
    if body.get("runbook"):
        args["steps"] = _named(records.runbook_steps(asked, body["runbook"], node), verb)
    elif key and not body.get(key):
        raise Refusal(400, f'"{key}" is required when setting target provision state to {verb}')
    elif key:
        args["steps"] = _named(body[key], verb)
    return args


def _named(given: list[Any], verb: Verb) -> list[Any]:
    """Ironic names the driver interface that does a step; here the step belongs to its verb (`clean.erase_devices`)."""
    found = []
    for step in given:
        own = isinstance(step, dict) and f"{verb}.{step.get('step')}" in REGISTRY
        found.append({**step, "interface": str(verb)} if own else step)
    return found


def _deployment(asked: Asked, node: Node, verb: Verb, body: dict[str, Any]) -> dict[str, Any]:
    """Image, config drive, disk hints and steps of a deploy."""
    kept = node.extra.get("ironic", {}).get("instance_info") or {}
    image = kept.get("image_source") or (node.image_id if verb is Verb.REBUILD else None)
    if not image:
        raise Refusal(
            400,
            f"Failed to validate deploy or power info for node {node.id}. Error: Cannot validate image information for "
            f"node {node.id} because one or more parameters are missing from its instance_info. Missing are: "
            "['image_source']",
        )
    args: dict[str, Any] = {"image": str(image).removeprefix("baremetal:")}
    drive = body.get("configdrive", kept.get("configdrive"))
    if isinstance(drive, dict):
        unknown = sorted(set(drive) - set(DRIVE))
        if unknown:
            raise Refusal(
                400,
                f"Schema error for configdrive: Additional properties are not allowed ({unknown[0][:80]!r} was "
                "unexpected)",
            )
        args["config_drive"] = {k: drive[k] for k in DRIVE if k in drive}
    elif isinstance(drive, str) and drive:
        raise Refusal(
            400,
            "configdrive must be a JSON object here (meta_data, user_data, network_data): the server builds the ISO. "
            "Ready-made images and URLs are not taken.",
        )
    hints = kept.get("root_device") or node.properties.get("root_device")
    if isinstance(hints, dict):
        args["root_device"] = hints
    steps = [*records.template_steps(asked, node, kept), *(body.get("deploy_steps") or [])]
    if steps:
        args["steps"] = steps
    return args


@route("PUT", "/nodes/{}/states/power")
async def power(asked: Asked, ident: str) -> Reply:
    """A power wish."""
    body = await asked.body()
    node = node_of(asked, ident)
    if body.get("target") is None:
        raise Refusal(400, "Missing mandatory parameter: target")
    typed("body", body, {"target": TEXT, "timeout": (int,)})
    target = POWER.get(body["target"])
    if target is None:
        raise Refusal(
            400,
            f'The requested action "{body["target"][:40]}" can not be performed on node "{node.id}" while it is in '
            f'state "{lifecycle.provision_state(node)}". Valid: {", ".join(POWER)}',
        )
    try:
        await ask_one(asked.con, node.id, f"power-{target}", {}, asked.who)
    except Refused as exc:
        raise Refusal(409, f"Node {node.id} is locked by host baremetal: {exc.brief}. {exc.fix}") from exc
    return answer(asked, None, 202, f"nodes/{node.id}/states")


@route("GET", "/nodes/{}/states/console")
async def console(asked: Asked, ident: str) -> Reply:
    """Consoles are recorded all the time: `baremetal node console`; there is none to switch on."""
    node_of(asked, ident)
    return answer(asked, {"console_enabled": False, "console_info": None})


@route("PUT", "/nodes/{}/states/console")
async def set_console(asked: Asked, ident: str) -> Reply:
    """Not switched: see the recorded one."""
    node_of(asked, ident)
    raise Refusal(
        400, "Driver does not support set_console_mode: consoles are recorded all the time; see: baremetal node console"
    )


@route("PUT", "/nodes/{}/states/raid", since=12)
async def set_raid(asked: Asked, ident: str) -> Reply:
    """Hardware RAID is not configured here."""
    raise Refusal(400, f"Driver of node {node_of(asked, ident).id} does not support set_target_raid_config.")


@route("PUT", "/nodes/{}/states/boot_mode", since=76)
async def set_boot_mode(asked: Asked, ident: str) -> Reply:
    """Boot modes are found by inspection, not switched."""
    raise Refusal(400, f"Driver of node {node_of(asked, ident).id} does not support set_boot_mode.")


@route("PUT", "/nodes/{}/states/secure_boot", since=76)
async def set_secure_boot(asked: Asked, ident: str) -> Reply:
    """Neither."""
    raise Refusal(400, f"Driver of node {node_of(asked, ident).id} does not support set_secure_boot_state.")


@route("PUT", "/nodes/{}/maintenance")
async def set_maintenance(asked: Asked, ident: str) -> Reply:
    """With its reason."""
    body = await asked.body()
    return await _maintenance(asked, ident, str(body.get("reason") or "set over the API")[:1000])


@route("DELETE", "/nodes/{}/maintenance")
async def end_maintenance(asked: Asked, ident: str) -> Reply:
    """Over."""
    return await _maintenance(asked, ident, None)


async def _maintenance(asked: Asked, ident: str, reason: str | None) -> Reply:
    now, con = asked.con.clock.now(), asked.con
    node_id = node_of(asked, ident).id
    by, flag = asked.who, {"maintenance": reason}
    await con.write(lambda c: registry.change(c, con.world, con.signer, node_id, flag, now, by=by))
    con.touched(node_id)
    return answer(asked, None, 202)


@route("GET", "/nodes/{}/validate")
async def validate(asked: Asked, ident: str) -> Reply:
    """Each interface: true, or why not."""
    node = node_of(asked, ident)
    con = asked.con
    found = con.store.read(lambda c: (ports.of_node(c, node.id), inventories.get(c, node.id)))
    facts = checks.Facts(con.world, node, found[0], found[1][1] if found[1] else None, None, None)
    ramdisk = {c["name"]: c for c in await checks.run("pre-enroll", facts)}["ramdisk-there"]
    info = node.extra.get("ironic", {}).get("instance_info") or {}
    no_image = None if info.get("image_source") or node.image_id else "instance_info.image_source is missing"
    no_bmc = None if node.bmc_url else "driver_info has no BMC address"
    no_ramdisk = ramdisk["reason"] if ramdisk["verdict"] == "fail" else None
    reasons = {"power": no_bmc, "management": no_bmc, "boot": no_ramdisk, "deploy": no_image or no_ramdisk}
    names = ("bios", "console", "firmware", "inspect", "network", "raid", "rescue", "storage")
    doc = {name: _validity(reasons[name]) for name in reasons} | {name: _validity(None) for name in names}
    return answer(asked, doc)


def _validity(reason: str | None) -> dict[str, Any]:
    return {"result": reason is None, "reason": reason} if reason else {"result": True}


@route("GET", "/nodes/{}/management/boot_device")
async def get_boot_device(asked: Asked, ident: str) -> Reply:
    """Asked of the BMC."""
    plan = await asked.con.world.driver(node_of(asked, ident)).get_boot()
    device = None if plan.device is BootDevice.NONE else str(plan.device)
    return answer(asked, {"boot_device": device, "persistent": not plan.once})


@route("PUT", "/nodes/{}/management/boot_device")
async def put_boot_device(asked: Asked, ident: str) -> Reply:
    """Set at the BMC."""
    body = await asked.body()
    node = node_of(asked, ident)
    if not body.get("boot_device"):
        raise Refusal(400, "Missing mandatory parameter: boot_device")
    typed("body", body, {"boot_device": TEXT, "persistent": (bool,)})
    if node.wanted:
        raise Refusal(409, f"Node {node.id} is locked by host baremetal: {node.wanted} is under way.")
    try:
        device = BootDevice(body["boot_device"])
    except ValueError:
        raise Refusal(400, f"Invalid boot device {body['boot_device'][:40]} specified.") from None
    await asked.con.world.driver(node).set_boot(device, once=not body.get("persistent", False))
    return answer(asked, None, 204)


@route("GET", "/nodes/{}/management/boot_device/supported")
async def supported(asked: Asked, ident: str) -> Reply:
    """What a BMC can be told."""
    node_of(asked, ident)
    return answer(asked, {"supported_boot_devices": ["pxe", "disk", "cdrom", "bios", "safe"]})


@route("PUT", "/nodes/{}/management/inject_nmi", since=29)
async def inject_nmi(asked: Asked, ident: str) -> Reply:
    """A diagnostic interrupt."""
    from baremetal.bmc.base import PowerOp

    await asked.con.world.driver(node_of(asked, ident)).set_power(PowerOp.DIAG)
    return answer(asked, None, 204)


@route("GET", "/nodes/{}/management/indicators", since=63)
async def indicators(asked: Asked, ident: str) -> Reply:
    """None here: `baremetal node locate` blinks the LED."""
    node_of(asked, ident)
    return answer(asked, {"indicators": []})
