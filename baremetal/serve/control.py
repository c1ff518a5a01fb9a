"""The control process: store, conductor, API and the boot plane's link on one asyncio loop.

The only process that reads the operator's keys and writes the database. Its API
listens on a unix socket that only root may open, and on TCP when api_listen is set.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import gc
import grp
import importlib
import logging
import os
import pwd
import shutil
import socket
import ssl
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from baremetal.api.planelink import PlaneLink
from baremetal.config import ADDED_NETWORKS, Settings, is_postgres
from baremetal.errors import MachineError
from baremetal.protocol.plane import MAX_FRAME
from baremetal.serve import child, privileges
from baremetal.serve.keyfiles import read_key
from baremetal.serve.listen import bind, tls_context
from baremetal.serve.several import join, share_images, stand

if TYPE_CHECKING:
    from baremetal.model.network import Network
    from baremetal.workflows.conductor import Conductor
    from baremetal.workflows.netbook import NetBook
    from baremetal.workflows.site import Images, Site

log = logging.getLogger("baremetal.serve.control")  # __name__ is __main__ here

# Settings that are the passes' policy, under the same name.
POLICY = (
    "force_power",
    "soft_off_s",
    "sensor_poll_s",
    "audit_bmcs",
    "record_consoles",
    "deploy_limit",
    "clean_limit",
    "inspect_limit",
    "automated_clean",
    "clean_method",
    "fast_track",
    "idle_ramdisk_s",
    "post_s",
    "boot_s",
    "hello_s",
    "boot_tries",
    "first_boot_s",
)
NEVER_S = 10 * 365 * 86400.0
IMAGES_LOOK_S = 2.0  # how soon an image added by the CLI is servable


@dataclass(frozen=True)
class Listening:
    """Where the API is heard: the local socket, and TCP (with TLS) when it is configured."""

    unix: socket.socket
    tcp: socket.socket | None
    tls: ssl.SSLContext | None


async def serve(settings: Settings, life: child.Life) -> None:
    """Open, drop rights, run until told to stop."""
    gc.disable()  # looking for garbage among modules being imported is a fifth of a start's CPU
    async with contextlib.AsyncExitStack() as stack:
        api = bind_unix(settings.api_socket, settings.user, settings.api_group)
        stack.callback(_unlink, settings.api_socket)
        plane = bind_unix(settings.plane_socket, settings.boot_user)
        stack.callback(_unlink, settings.plane_socket)
        tcp = _bind_tcp(settings.api_listen)
        tls = tls_context(settings.tls_dir) if tcp is not None and settings.api_tls else None
        privileges.no_core()
        life.drop(settings.user)
        conductor = await _conductor(settings, stack)
        link = PlaneLink(conductor.inbox, conductor.snapshot, lambda: conductor.version, conductor.planes)
        conductor.on_push(link.push)
        conductor.on_site_change(link.push_all)
        conductor.netbook = _netbook(settings, conductor)
        conductor.release_address = lambda address: link.tell({"t": "release", "address": address})
        await conductor.start()
        stack.push_async_callback(conductor.stop)
        server = await asyncio.start_unix_server(link.handle, sock=plane, limit=MAX_FRAME + 1)
        stack.callback(server.close)
        if conductor.cluster is not None:
            standing = asyncio.create_task(stand(conductor, conductor.cluster, link))
            stack.callback(standing.cancel)
        if (keep := getattr(conductor.images, "keep", None)) is not None:  # several servers
            sharing = asyncio.create_task(keep(conductor.images_changed))
            stack.callback(sharing.cancel)
        watcher = asyncio.create_task(_watch_images(settings, conductor))
        stack.callback(watcher.cancel)
        await asyncio.to_thread(_load_api)  # half of a start's CPU: nodes in flight go on meanwhile
        await _serve_api(conductor, settings, Listening(api, tcp, tls), stack)
        gc.freeze()  # what is loaded now stays: no later collection looks at it again
        gc.enable()
        life.ready()
        await life.stop.wait()


def bind_unix(path: Path, user: str, group: str = "") -> socket.socket:
    """A listening unix socket that root, `user` and `group` may open. A dead server's socket is replaced."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.unlink(missing_ok=True)
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
        old = os.umask(0o177)
        try:
            sock.bind(str(path))
        finally:
            os.umask(old)
        if user and os.geteuid() == 0:
            shutil.chown(path, pwd.getpwnam(user).pw_uid)
        if group:
            shutil.chown(path, group=grp.getgrnam(group).gr_gid)
            path.chmod(0o660)
        sock.listen(128)
    except (OSError, KeyError) as exc:
        raise MachineError(
            f"cannot make the socket {path}",
            detail=str(exc),
            fix="run as root with users and groups that exist, or set run_dir to a directory of yours",
        ) from exc
    return sock


def _unlink(path: Path) -> None:
    """As another user we may not: the next start, as root, does."""
    with contextlib.suppress(OSError):
        path.unlink()


def _bind_tcp(listen: str) -> socket.socket | None:
    if not listen:
        return None
    host, _, port = listen.rpartition(":")
    if not port.isdecimal():
        raise MachineError(f"api_listen {listen!r} is not address:port", fix="write it like 127.0.0.1:6385")
    return bind(host or "127.0.0.1", int(port))


async def _conductor(settings: Settings, stack: contextlib.AsyncExitStack) -> Conductor:
    from baremetal.bmc.pool import BmcPool
    from baremetal.images.store import ImageStore
    from baremetal.store import Store
    from baremetal.workflows.conductor import Conductor
    from baremetal.workflows.policy import Policy
    from baremetal.workflows.site import Keys

    keys = Keys(
        operator=read_key(settings, "operator.key"),
        metadata=read_key(settings, "metadata.key"),
        signing_pem=read_key(settings, "metadata-signing.pem"),
    )
    values = {name: getattr(settings, name) for name in POLICY}
    sync_s = settings.power_sync_s or NEVER_S
    policy = Policy(**values, power_sync_s=sync_s, events_keep_days=settings.event_days)
    pool = BmcPool(settings.bmc_workers)
    cluster = None
    if is_postgres(settings.database):
        cluster = join(settings, keys, pool, stack)
        assert cluster.store is not None
        store = cluster.store
    else:
        store = Store.open(settings.database_url)
        stack.callback(store.close)
    await stack.enter_async_context(pool)
    images: Images = ImageStore(settings.images_dir)
    if cluster is not None:
        images = share_images(settings, store, cluster.me.name)
    return Conductor(
        store=store,
        keys=keys,
        site=make_site(settings),
        bmc=pool,
        images=images,
        policy=policy,
        state_dir=settings.state_dir,
        cluster=cluster,
    )


def _netbook(settings: Settings, conductor: Conductor) -> NetBook:
    """What `network add` and `network remove` change."""
    from baremetal.serve import init, preflight
    from baremetal.workflows.netbook import NetBook

    def changed(networks: tuple[Network, ...]) -> None:
        with contextlib.suppress(OSError):  # as another user than root we may not: the next start does it
            init.renew_certificate(dataclasses.replace(settings, networks=networks))
        conductor.set_site(dataclasses.replace(conductor.world.site, networks=networks))

    return NetBook(settings.state_dir / ADDED_NETWORKS, settings.networks, preflight.possible, changed)


def make_site(settings: Settings) -> Site:
    """Our addresses, certificates and every ramdisk of the image store, made servable."""
    from baremetal.images.store import ImageStore
    from baremetal.serve import anchors
    from baremetal.serve.tls import public_hex
    from baremetal.workflows.diskless import is_diskless
    from baremetal.workflows.site import Ramdisk, Site

    ca_pem = (settings.tls_dir / "ca.pem").read_bytes()
    images = [image for image in ImageStore(settings.images_dir).list() if image.kind == "ramdisk"]
    diskless = {image.id for image in images if is_diskless(image)}
    public = public_hex(settings.keys_dir / "image-signing.pub")
    orders = public_hex(settings.keys_dir / "metadata-signing.pub")
    ramdisks, artifacts = anchors.compose_all(images, settings.artifacts_dir, ca_pem, public, orders)
    server = settings.networks[0].server if settings.networks else "127.0.0.1"
    return Site(
        http_url=f"http://{server}:{settings.http_port}",
        https_url=f"https://{server}:{settings.https_port}",
        ca_pem=ca_pem.decode(),
        networks=settings.networks,
        tftp_port=settings.tftp_port,
        ramdisks={r.arch: Ramdisk(r.kernel, r.initrd, r.cmdline) for r in ramdisks if r.image_id not in diskless},
        netboot={r.image_id: Ramdisk(r.kernel, r.initrd, r.cmdline) for r in ramdisks if r.image_id in diskless},
        artifacts={name: {"path": a.path, "size": a.size, "sha256": a.sha256} for name, a in artifacts.items()},
    )


async def _watch_images(settings: Settings, conductor: Conductor) -> None:
    """`image add` writes into the store beside us: look at its directory, and serve what is new."""
    seen = _stamp(settings.images_dir)
    while True:
        await asyncio.sleep(IMAGES_LOOK_S)
        stamp = _stamp(settings.images_dir)
        if stamp == seen:
            continue
        seen = stamp
        try:
            networks = conductor.world.site.networks
            site = await asyncio.to_thread(make_site, settings)
            conductor.set_site(dataclasses.replace(site, networks=networks))
        except Exception:
            log.exception("the image store changed, but cannot be read")


def _stamp(directory: Path) -> tuple[int, ...]:
    try:
        return (directory.stat().st_mtime_ns, *(entry.stat().st_mtime_ns for entry in os.scandir(directory)))
    except OSError:
        return ()


def _load_api() -> None:
    """Import what the API needs, beside the event loop."""
    for module in ("api.app", "api.auditlog", "api.auth", "api.webhooks", "serve.apithread"):
        importlib.import_module(f"baremetal.{module}")


async def _serve_api(
    conductor: Conductor, settings: Settings, listening: Listening, stack: contextlib.AsyncExitStack
) -> None:
    from baremetal.api.app import create_app, parties_in
    from baremetal.api.auditlog import Audited, AuditLog
    from baremetal.api.auth import Accounts, Guard
    from baremetal.api.webhooks import Webhooks
    from baremetal.serve.apithread import ApiThread, Front

    hooks = Webhooks(conductor)
    await hooks.start()
    stack.push_async_callback(hooks.stop)
    audit = AuditLog(settings.state_dir / "logs/audit.jsonl")
    stack.callback(audit.close)
    app = create_app(conductor, hooks, audit)
    front = Front(app, asyncio.get_running_loop())
    thread = ApiThread()
    stack.push_async_callback(thread.close)
    await thread.listen(Audited(front, audit), listening.unix)
    if listening.tcp is None:
        return
    if not settings.api_auth:
        log.warning("the API on %s asks nobody who they are (api_auth = false)", settings.api_listen)
    guarded = Guard(front, Accounts(settings.keys_dir), parties_in(conductor)) if settings.api_auth else front
    await thread.listen(Audited(guarded, audit), listening.tcp, listening.tls)


if __name__ == "__main__":
    sys.exit(child.run("control", serve))
