"""An IPMI link over pyghmi: blocking sessions in threads, made safe to wait for.

pyghmi proposes cipher suite 17 and falls back to 3 by itself. Credentials go in
as bytes: with text, pyghmi can log in to a BMC only once per process.
"""

from __future__ import annotations

import asyncio
import struct
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import cache
from typing import Any

from pyghmi.exceptions import IpmiException

from baremetal.bmc import pyghmifix, says
from baremetal.bmc.faults import (
    BmcAuth,
    BmcBusy,
    BmcCipher,
    BmcError,
    BmcPrivilege,
    BmcProtocol,
    BmcTimeout,
    BmcUnreachable,
    BmcUnsupported,
)
from baremetal.bmc.link import Answer, Login, silent

# Twice as many are no faster: measured on two cores at 500 BMCs.
THREADS = 128
PRIVILEGE = {"user": 2, "operator": 3, "administrator": 4}

# Threads that passed their deadline and did not come back: the supervisor replaces the worker when they are many.
lost_threads: set[int] = set()


@cache
def executor() -> ThreadPoolExecutor:
    """The process's pyghmi threads; the first call repairs pyghmi."""
    pyghmifix.repair()
    return ThreadPoolExecutor(THREADS, thread_name_prefix="pyghmi")


class PyghmiLink:
    """A warm session by pyghmi, logged in at the first command and again after it broke."""

    def __init__(self, login: Login) -> None:
        if login.cipher not in (None, 3, 17):
            raise BmcUnsupported(
                f"{login.host}: pyghmi cannot speak cipher suite {login.cipher}", fix="drop driver=pyghmi"
            )
        self.login = login
        self.gap_s = 0.0
        self._used_at = 0.0
        self._session: Any = None

    @property
    def cipher(self) -> int | None:
        if self._session is None or self._session.broken:
            return None
        return 17 if self._session.attemptedhash == 256 else 3

    async def command(self, netfn: int, command: int, data: bytes = b"", lun: int = 0) -> Answer:
        """One command in a thread; the thread ends soon after the deadline by the session's own bound."""
        loop = asyncio.get_running_loop()
        ident: list[int] = []
        future = loop.run_in_executor(executor(), self._run, ident, netfn, command, data, lun)
        try:
            async with asyncio.timeout(self.login.timeout_s + 8.0):
                return await asyncio.shield(future)
        except TimeoutError:
            lost_threads.update(ident)
            future.add_done_callback(lambda done: _came_back(done, ident))
            raise BmcTimeout(
                f"{self.login.host}: no answer within {self.login.timeout_s:.0f} s",
                detail="pyghmi did not come back either",
                stage="command",
            ) from None

    async def close(self) -> None:
        """Logs out in a thread; a BMC that does not answer costs a second, no more."""
        session, self._session = self._session, None
        if session is not None and not session.broken:
            await asyncio.get_running_loop().run_in_executor(executor(), _logout, session)

    def _run(self, ident: list[int], netfn: int, command: int, data: bytes, lun: int) -> Answer:
        ident.append(threading.get_ident())
        if self.gap_s and (wait := self._used_at + self.gap_s - time.monotonic()) > 0:
            time.sleep(wait)
        self._used_at = time.monotonic()
        for attempt in (1, 2):
            session = self._logged_in()
            session.renew(self.login.timeout_s)
            try:
                answer = session.raw_command(netfn=netfn, command=command, data=data, rslun=lun)
            except IpmiException as exc:
                self._session = None
                # A session that had been idle and was forgotten may be replaced once; a fresh one has had its chance.
                if attempt == 1 and getattr(session, "used", False):
                    continue
                raise _lost(self.login, session, str(exc)) from exc
            except (TypeError, KeyError, IndexError, ValueError, AttributeError, struct.error) as exc:
                self._session = None
                raise BmcProtocol(
                    f"{self.login.host}: pyghmi lost its way",
                    detail=f"{type(exc).__name__}: {exc}"[:300],
                    fix="try again",
                ) from exc
            if answer is None or answer.get("code") == 0xFFFF:
                self._session = None
                raise _lost(self.login, session, str((answer or {}).get("error", "")))
            session.used = True
            # Two silences (2.5 s) and the session counts as forgotten: pyghmi would wait 9 s.
            session.maxtimeout = 2
            return Answer(answer["code"], bytes(answer["data"]))
        raise AssertionError("unreachable")

    def _logged_in(self) -> Any:
        if self._session is None or self._session.broken:
            try:
                self._session = _log_in(self.login)
            except BmcPrivilege:
                if self.login.privilege is not None:
                    raise
                # pyghmi itself steps down on status 09h and 0Dh, but not on 0Ah, the code the standard gives for it.
                self._session = _log_in(replace(self.login, privilege="operator"))
        return self._session


def _came_back(done: asyncio.Future[Answer], ident: list[int]) -> None:
    lost_threads.difference_update(ident)
    done.exception()  # seen: nobody waits for it any more


def _log_in(login: Login) -> Any:
    make: dict[str, Any] = {"bmc": login.host, "userid": login.user, "password": login.password, "port": login.port}
    if login.kg:
        make["kg"] = login.kg
    if login.privilege:
        make["privlevel"] = PRIVILEGE[login.privilege]
    try:
        session = pyghmifix.BoundedSession.__new__(pyghmifix.BoundedSession, **make)
        session.renew(login.timeout_s)
        if login.cipher == 3:
            session = _suite_3(session)
        session.__init__(**make)  # type: ignore[misc]
    except IpmiException as exc:
        raise _failed(login, session, str(exc)) from exc
    except (TypeError, KeyError, IndexError, ValueError, AttributeError, struct.error) as exc:
        detail = f"{type(exc).__name__}: {exc}"[:300]
        raise BmcProtocol(f"{login.host}: pyghmi lost its way in the login", detail=detail, fix="try again") from exc
    except OSError as exc:
        raise BmcUnreachable(
            f"{login.host}: no way to the BMC", detail=str(exc), fix="check name, route and VLAN", cause="no-route"
        ) from exc
    if session.broken:
        raise _failed(login, session, getattr(session, "errormsg", "") or "")
    if login.cipher == 17 and session.attemptedhash != 256:
        session.logout()
        raise BmcCipher(
            f"{login.host}: BMC refuses cipher suite 17",
            detail="it fell back to suite 3, which the address forbids",
            fix="drop ?cipher=17, or update the BMC's firmware",
            stage="open-session",
        )
    return session


def _suite_3(session: Any) -> Any:
    original = session._initsession

    def begin_with_3() -> None:
        original()
        session.attemptedhash = 1

    session._initsession = begin_with_3
    return session


def _logout(session: Any) -> None:
    try:
        session.renew(1.0)
        session.logout()
    except (IpmiException, KeyError, OSError):
        pass


def _failed(login: Login, session: Any, text: str) -> BmcError:
    """Why the login failed, by pyghmi's words and the stage it was in."""
    host, stage = login.host, str(session.ended_at_stage or session.sessioncontext)
    say = text.lower()
    if "unable to transmit" in say:
        return BmcUnreachable(
            f"{host}: no way to the BMC", detail=text, fix="check name, route and VLAN", cause="no-route"
        )
    if "incorrect password" in say:
        return says.auth(host, "password", text)
    if "invalid rakp4" in say:
        return says.auth(host, "kg", text)
    if "unauthorized name" in say or "invalid username" in say or "unauthorized guid" in say:
        return says.auth(host, "user", text)
    if "invalid integrity check" in say:
        return says.out_of_step(host, text)
    if "invalid role" in say or "unauthorized role" in say or "privelege" in say:
        return says.no_privilege(host, text)
    if "insufficient resources" in say:
        return says.no_session(host, text)
    if "algorithm" in say or "cipher suite" in say:
        return says.no_cipher(host, text)
    if "md5 required" in say or "ipmi 1.5" in say:
        return BmcUnsupported(f"{host}: BMC does not speak IPMI 2.0", detail=text, stage="discovery")
    if not session.heard:
        return silent(
            host,
            login.timeout_s if login.timeout_s < 6 else 6,
            "no answer to RMCP (Get Channel Authentication Capabilities)",
        )
    if text not in ("", "silent", "None"):
        return BmcProtocol(f"{host}: login failed", detail=f"{text} (stage {stage})", stage=stage)
    return says.went_silent(host, stage)


def _lost(login: Login, session: Any, text: str) -> BmcError:
    """Why an established session ended under a command."""
    broken = _failed(login, session, session.error_text or text) if session.error_text else None
    if isinstance(broken, (BmcAuth, BmcPrivilege, BmcBusy)):
        return broken
    return BmcTimeout(
        f"{login.host}: BMC logged in, then fell silent",
        detail=text,
        fix="if it stays so: baremetal bmc reset, or pull its power",
        cause="after-login",
        stage="command",
    )
