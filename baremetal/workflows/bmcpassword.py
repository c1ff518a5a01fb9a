"""A node's BMC gets another password: on the BMC, proved, and in our store, in an order that survives a crash.

The new one is sealed beside the old before the BMC hears of it; it takes the
old one's place when it has logged in. When we died in between, the next change or
`settle` finds both and asks the BMC which is right: two logins at most.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy.engine import Connection

from baremetal.bmc.faults import BmcAuth, BmcLied
from baremetal.bmc.url import BmcUrl
from baremetal.model.node import Node
from baremetal.secrets import Secret
from baremetal.store import secrets
from baremetal.workflows.passes import World

NEXT = "bmc-password-next"
# What an operator gave before we changed it: a file of machines that still says so is older than the change.
REPLACED = "bmc-password-replaced"


async def change(world: World, node: Node, account: str, new: Secret) -> dict[str, Any]:
    """Set and prove; kept when the account is the one we log in with."""
    from baremetal.bmc.passwords import checked

    url = BmcUrl.parse(node.bmc_url)
    checked(url, new.reveal())
    ours = account in ("", url.user)
    if ours:
        await settle(world, node)
        await _write(world, node, NEXT, new)
    try:
        doc = await world.driver(node).optional(  # type: ignore[attr-defined]
            "change_password", account or url.user, new.reveal()
        )
    except BmcLied:
        if ours:
            await settle(world, node)
        raise
    if ours:
        await _promote(world, node, new)
    return dict(doc)


async def settle(world: World, node: Node) -> bool:
    """Which of two stored passwords is right? True when there were two; then there is one."""
    held = world.store.read(lambda c: secrets.get(c, world.operator, node.id, NEXT))
    if held is None:
        return False
    try:
        await world.driver(node).power()
    except BmcAuth:
        await world.drivers.driver(node.bmc_url, held).power()  # wrong too: both stay, the error says why
        await _promote(world, node, held)
        return True
    await world.store.write(lambda c: secrets.drop(c, node.id, NEXT))
    return True


def outdated(conn: Connection, world: World, node_id: str, text: str) -> bool:
    """Is this the password that was given before we changed it on the BMC?"""
    replaced = secrets.get(conn, world.operator, node_id, REPLACED)
    return replaced is not None and replaced.reveal() == text


async def _write(world: World, node: Node, field: str, secret: Secret) -> None:
    await world.store.write(lambda c: secrets.put(c, world.operator, node.id, field, secret, world.now()))


async def _promote(world: World, node: Node, new: Secret) -> None:
    def write(conn: Connection) -> None:
        given = secrets.get(conn, world.operator, node.id, secrets.BMC_PASSWORD)
        if given is not None and not secrets.has(conn, node.id, REPLACED):
            secrets.put(conn, world.operator, node.id, REPLACED, given, world.now())
        secrets.put(conn, world.operator, node.id, secrets.BMC_PASSWORD, new, world.now())
        secrets.drop(conn, node.id, NEXT)

    await world.store.write(write)
    world.forget(node.id)
