"""What `serve` does when the database is PostgreSQL: joins the other servers, and keeps its boot plane in step.

Several times a second the boot plane is told for how long what it knows is good
(bootplane/standing.py), which ranges are this server's, and who the others are.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import hashlib
import logging
import os
import time
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from baremetal.api.planelink import PlaneLink
from baremetal.config import Settings
from baremetal.errors import EXIT_UNREACHABLE
from baremetal.store import servers, wire_seen
from baremetal.version import __version__

if TYPE_CHECKING:
    from baremetal.bmc.pool import BmcPool
    from baremetal.engine.cluster import Cluster
    from baremetal.store import Store
    from baremetal.workflows.conductor import Conductor
    from baremetal.workflows.imageshare import SharedImages
    from baremetal.workflows.site import Keys

log = logging.getLogger("baremetal.serve.several")

TELL_S = 0.5
LOOK_S = 2.0  # how often we look who the others are
# Tests let one program stand in for another release of itself.
VERSION = "BAREMETAL_TEST_VERSION"


def join(settings: Settings, keys: Keys, pool: BmcPool, stack: contextlib.AsyncExitStack) -> Cluster:
    """Open the database and become one of its servers; MachineError says why not."""
    from baremetal.engine.cluster import Cluster

    def lost(by: str) -> None:
        """Another server acts in our place: nothing may follow, not even a farewell to a BMC. We start anew."""
        log.error("this server was not heard for too long, %s took over; it starts again", by)
        pool.kill()
        logging.shutdown()
        os._exit(EXIT_UNREACHABLE)

    cluster = Cluster(
        settings.database,
        name=settings.server_name,
        version=os.environ.get(VERSION, __version__),
        site=fingerprint(keys),
        urls=[f"https://{network.server}:{settings.https_port}" for network in settings.networks],
        pools=[network.name for network in settings.networks if network.range_first and not network.proxy],
        on_lost=lost,
    )
    store = cluster.open_store()
    stack.callback(store.close)
    cluster.join()
    stack.callback(cluster.leave)
    log.info("server %s (%s) joined", cluster.me.name, cluster.me.id)
    return cluster


def share_images(settings: Settings, store: Store, name: str) -> SharedImages:
    """The image store of this server, which fetches what the others have."""
    from baremetal.images.peer import Place, Trust
    from baremetal.images.store import ImageStore
    from baremetal.serve.tls import public_hex
    from baremetal.workflows.imageshare import SharedImages

    def places(url: str) -> Place:
        host = urlsplit(url).netloc.rpartition(":")[0]
        return Place(url.rstrip("/"), f"http://{host}:{settings.http_port}")

    trust = Trust(public_hex(settings.keys_dir / "image-signing.pub"), settings.tls_dir / "ca.pem")
    return SharedImages(ImageStore(settings.images_dir), store, name, trust, places)


def fingerprint(keys: Keys) -> str:
    """Which site these keys belong to; says nothing about them."""
    return hashlib.sha256(b"baremetal site\0" + keys.operator + b"\0" + keys.metadata).hexdigest()


async def stand(conductor: Conductor, cluster: Cluster, link: PlaneLink) -> None:
    """For ever: tell the boot plane how it stands."""
    looked, told_pools, told_planes = 0.0, frozenset[str](), 0
    while True:
        pools = frozenset(cluster.pools())
        planes = int(conductor.planes.get("boot", {}).get("connected", 0))
        frame: dict[str, Any] = {
            "t": "lease",
            "for_s": round(cluster.lease.left_s(), 3),
            "now": cluster.lease.now(),
            "pools": sorted(pools),
            "agents": list(conductor.world.site.peers),
        }
        try:
            if time.monotonic() - looked > LOOK_S:
                looked = time.monotonic()
                await _meet(conductor)
            if pools != told_pools or planes != told_planes:
                frame["leases"] = await _leases(conductor, pools)
                told_pools, told_planes = pools, planes
        except Exception as exc:
            log.debug("cannot look at the other servers: %s", exc)
        link.tell(frame)
        await asyncio.sleep(TELL_S)


async def _meet(conductor: Conductor) -> None:
    """Who the servers of this site are: agents are told all their addresses."""
    lives = await conductor.store.fetch(servers.newest)
    urls = tuple(dict.fromkeys(url for life in lives for url in life.urls if _counts(life, conductor.clock.now())))
    if urls != conductor.world.site.peers:
        conductor.world.site = dataclasses.replace(conductor.world.site, peers=urls)


def _counts(life: servers.Server, now: float) -> bool:
    """A server that went a day ago may be gone for good."""
    return life.ended_at is None or life.ended_at > now - 86400


async def _leases(conductor: Conductor, pools: frozenset[str]) -> list[list[Any]]:
    rows = await conductor.store.fetch(wire_seen.all_leases)
    return [[row["mac"], row["address"], row["expires"]] for row in rows if row["network"] in pools]
