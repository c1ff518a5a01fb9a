"""`baremetal bmc users`, `bmc password`, `bmc audit`: who may log in, and how dangerous that is."""

from __future__ import annotations

import sys
from collections import Counter, defaultdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from baremetal.cli.bmccall import Call, Yes, new_password, verb
from baremetal.errors import UsageError

if TYPE_CHECKING:
    from baremetal.bmc.careful import Careful


def register(app: typer.Typer) -> None:
    """Adds the verbs to `baremetal bmc`."""
    for command in (users, password, audit):
        verb(app)(command)


def users(call: Call) -> None:
    """The accounts of every BMC."""
    import dataclasses

    async def ask(bmc: Careful) -> dict[str, Any]:
        return {"users": [dataclasses.asdict(found) for found in await bmc.users()]}

    call.run(ask)


def password(
    call: Call,
    account: Annotated[str, typer.Option("--account", help="Whose password [the user who logs in].")] = "",
    new_password_file: Annotated[Path | None, typer.Option(help="File with the new password.")] = None,
    new_password_env: Annotated[str | None, typer.Option(help="Variable with the new password.")] = None,
    random: Annotated[
        Path | None,
        typer.Option(
            "--random", help="Make one for each BMC and write them to this new file, as `host user password`."
        ),
    ] = None,
    length: Annotated[int, typer.Option("--length", help="Of random ones: 16 or 20.")] = 16,
    yes: Yes = False,
) -> None:
    """Change an account's password on every BMC, and prove it by logging in with the new one."""
    from baremetal.bmc import passwords
    from baremetal.bmc.url import BmcUrl

    if random and (new_password_file or new_password_env):
        raise UsageError("--random and a password of yours", fix="give one of them")
    if not 8 <= length <= passwords.LONG:
        raise UsageError(f"a random password of {length}", fix=f"8 to {passwords.LONG}; 16 works everywhere")
    given = "" if random else new_password(new_password_file, new_password_env)
    if given:
        for target in call.targets:
            if target.url:
                passwords.checked(target.url, given)
    call.want_yes(f"change the password of {account or 'the user who logs in'}", yes)
    kept = _Kept(random) if random else None
    urls = {target.host: target.url for target in call.targets}
    kg = call.kg.reveal() if call.kg else None

    async def ask(bmc: Careful) -> dict[str, Any]:
        name = bmc.name
        url = urls[name]
        assert isinstance(url, BmcUrl)
        new = given
        if kept:
            new = passwords.random_password(length)
            kept.note(name, account or url.user, new)  # before it is set: a lost one locks us out
        return await passwords.change(url, bmc, account, new, kg)

    call.run(ask)


class _Kept:
    """The file of random passwords: new, ours alone, each line on disk before its password is set."""

    def __init__(self, path: Path) -> None:
        import os

        try:
            self._file = os.fdopen(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "w")
        except OSError as exc:
            raise UsageError(f"{path}: {exc.strerror}", fix="name a file that does not exist yet") from exc

    def note(self, host: str, user: str, new: str) -> None:
        import os

        self._file.write(f"{host} {user} {new}\n")
        self._file.flush()
        os.fsync(self._file.fileno())


def audit(
    call: Call,
    factory_file: Annotated[
        Path | None,
        typer.Option(
            "--factory-file",
            help="Lines `user password` to try: by IPMI's password test, which is no login; else two logins at most.",
        ),
    ] = None,
) -> None:
    """What is dangerous: cipher 0, anonymous users, factory passwords, TLS, clock, firmware; each with its fix."""
    from baremetal.bmc.audit import audit as examine

    pairs = factory_pairs(factory_file) if factory_file else []
    urls = {target.host: target for target in call.targets}
    firmware: dict[str, list[tuple[str, str]]] = defaultdict(list)

    async def ask(bmc: Careful) -> dict[str, Any]:
        target = urls[bmc.name]
        assert target.url is not None
        secret = (target.password or call.password).reveal()
        return await examine(target.url, bmc, factory=pairs, password=secret)

    def compare(verdict: dict[str, Any]) -> None:
        if verdict.get("firmware"):
            firmware[f"{verdict.get('vendor')} {verdict.get('product')}"].append((verdict["firmware"], verdict["host"]))

    call.run(ask, touch=compare, last=lambda: _behind(firmware))


def _behind(firmware: dict[str, list[tuple[str, str]]]) -> None:
    """Machines of one kind with different firmware, said at the end: who is behind the others."""
    for kind, found in sorted(firmware.items()):
        versions = Counter(version for version, _ in found)
        if len(versions) < 2:
            continue
        newest = max(versions, key=version_key)
        old = [host for version, host in found if version != newest]
        names = ", ".join(old[:8]) + (" …" if len(old) > 8 else "")
        sys.stderr.write(f"firmware: {len(old)} of {len(found)} {kind} are behind {newest}: {names}\n")


def version_key(text: str) -> list[tuple[int, str]]:
    """Versions in their order: numbers as numbers."""
    import re

    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"[.\-_ ]", text)]


def factory_pairs(path: Path) -> list[tuple[str, str]]:
    """`user password` a line; a user alone means an empty password."""
    try:
        lines = path.read_text(encoding="utf-8", errors="surrogateescape").splitlines()
    except OSError as exc:
        raise UsageError(f"{path}: cannot be read", detail=exc.strerror or str(exc)) from exc
    pairs = [line.split(None, 1) for line in lines if line.strip() and not line.startswith("#")]
    return [(pair[0], pair[1] if len(pair) > 1 else "") for pair in pairs]
