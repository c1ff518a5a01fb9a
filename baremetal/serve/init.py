"""`baremetal init`: directories, keys, CA, certificate, database, configuration file.

May run again at any time: what is there stays, the server certificate is made
anew when the addresses have changed. Asks nothing that it can find out.
"""

from __future__ import annotations

import secrets
import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from baremetal.config import Settings
from baremetal.errors import MachineError
from baremetal.serve import tls
from baremetal.serve.owners import hand_over

SEALING_KEYS = ("operator.key", "metadata.key", "boot.key")
SIGNING_KEYS = ("image-signing.pem", "metadata-signing.pem")


@dataclass
class Report:
    """What was made now, and what was there."""

    made: list[str] = field(default_factory=list)
    kept: list[str] = field(default_factory=list)

    def note(self, path: Path, *, made: bool) -> None:
        (self.made if made else self.kept).append(str(path))


def initialise(settings: Settings, *, addresses: Sequence[str] = ()) -> Report:
    """Everything that `serve` needs. `addresses` go into the certificate besides the networks' own."""
    report = Report()
    try:
        _directories(settings, report)
        _keys(settings.keys_dir, report)
        _certificates(settings, addresses, report)
        _database(settings, report)
        hand_over(settings)
    except OSError as exc:
        raise MachineError(
            f"init: cannot write {exc.filename or settings.state_dir}: {exc.strerror}",
            fix="run as root, or set state_dir to a directory of yours; check free space with: df -h",
        ) from exc
    return report


def missing(settings: Settings) -> list[Path]:
    """Files that `serve` needs and that init has not made yet."""
    keys = [settings.keys_dir / name for name in SEALING_KEYS + SIGNING_KEYS]
    certificates = [settings.tls_dir / name for name in ("ca.pem", "server.pem", "server.key")]
    return [path for path in keys + certificates if not path.exists()]


def certificate_names(settings: Settings, addresses: Sequence[str] = ()) -> list[str]:
    """All names the server is called by: its addresses on each network, loopback, its host name."""
    names = ["127.0.0.1", "::1", "localhost", socket.gethostname()]
    names += [network.server for network in settings.networks]
    listen = settings.api_listen.rpartition(":")[0].strip("[]")
    if listen and listen not in ("0.0.0.0", "::"):  # noqa: S104 (compared, not bound)
        names.append(listen)
    return sorted({name for name in [*names, *addresses] if name})


def renew_certificate(settings: Settings) -> bool:
    """Make the server's certificate anew when it does not name all addresses; False when it need not or cannot be."""
    directory = settings.tls_dir
    wanted = set(certificate_names(settings))
    if tls.server_names(directory) >= wanted or not (directory / "ca.key").exists():
        return False
    tls.make_server(directory, sorted(wanted | tls.server_names(directory)))
    return True


def _directories(settings: Settings, report: Report) -> None:
    for path, mode in (
        (settings.state_dir, 0o755),
        (settings.cache_dir, 0o755),
        (settings.run_dir, 0o755),
        (settings.keys_dir, 0o700),
        (settings.tls_dir, 0o755),
        (settings.images_dir, 0o755),
        (settings.artifacts_dir, 0o755),
        (settings.boot_dir, 0o700),
        (settings.log_dir, 0o700),
        (settings.state_dir / "console", 0o700),
    ):
        made = not path.is_dir()
        path.mkdir(parents=True, exist_ok=True)
        if made:
            path.chmod(mode)
            report.note(path, made=True)


def _keys(directory: Path, report: Report) -> None:
    for name in SEALING_KEYS:
        _once(directory / name, report, lambda p: tls.write_private(p, secrets.token_bytes(32)))
    for name in SIGNING_KEYS:
        _once(directory / name, report, tls.make_signing_key)


def _once(path: Path, report: Report, make: Callable[[Path], None]) -> None:
    exists = path.exists()
    if not exists:
        make(path)
    report.note(path, made=not exists)


def _certificates(settings: Settings, addresses: Sequence[str], report: Report) -> None:
    directory = settings.tls_dir
    _once(directory / "ca.pem", report, lambda p: tls.make_ca(p.parent))
    server = directory / "server.pem"
    wanted = certificate_names(settings, addresses)
    fresh = server.exists() and (directory / "server.key").exists() and tls.server_names(directory) >= set(wanted)
    # A site that brought its own certificate has no ca.key: its files are never replaced.
    if not fresh and (directory / "ca.key").exists():
        tls.make_server(directory, wanted)
        report.note(server, made=True)
    else:
        report.note(server, made=False)


def _database(settings: Settings, report: Report) -> None:
    """Make the database, or bring its schema up to date. Not while a server has it open."""
    from baremetal.store import Store

    path = settings.state_dir / "baremetal.db"
    exists = path.exists()
    if settings.database or exists:
        return  # the server migrates what is there when it starts
    Store.open(settings.database_url).close()
    report.note(path, made=True)


if __name__ == "__main__":  # by the supervisor, which must stay small and so does not import all this
    renew_certificate(Settings.load())
