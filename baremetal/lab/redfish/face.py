"""One BMC's Redfish service: sessions, who may do what, and which resource a path names."""

from __future__ import annotations

import base64
import hmac
import secrets
from collections.abc import Callable
from dataclasses import dataclass, field

from baremetal.lab.redfish import accounts, managers, systems
from baremetal.lab.redfish.http import ROOT, Answer, Doc, Problem, Request, collection, etag, link, missing, resource
from baremetal.lab.redfish.quirks import RedfishQuirks
from baremetal.wire.ipmi.bmc import Bmc
from baremetal.wire.ipmi.users import User

SESSION_S = 1800.0
MAX_SESSIONS = 16
_ROLE = {4: "Administrator", 3: "Operator", 2: "ReadOnly"}
_OPEN = {("GET", ""), ("GET", "/redfish"), ("GET", ROOT), ("POST", f"{ROOT}/SessionService/Sessions")}
Getter = Callable[["Face"], Doc]


@dataclass
class Session:
    """A login by token."""

    token: str
    user: User
    last_seen: float


@dataclass
class Media:
    """The virtual CD drive. `on_change` is told the image's URL, or "" when it is ejected."""

    image: str = ""
    write_protected: bool = True
    on_change: Callable[[str], None] = lambda _: None


@dataclass
class Face:
    """The service of one BMC. `macs` are the host's NICs, `firmware` is bios or uefi.

    `powered_at` is when this face last ordered power on (Unix seconds).
    """

    bmc: Bmc
    macs: tuple[str, ...] = ()
    firmware: str = "uefi"
    memory_mib: int = 1024
    cpus: int = 1
    media: Media = field(default_factory=Media)
    bios: dict[str, str | int] = field(default_factory=lambda: {"BootMode": "Uefi", "SriovGlobalEnable": "Disabled"})
    bios_pending: dict[str, str | int] = field(default_factory=dict)
    secure_boot: bool = False
    sessions: dict[str, Session] = field(default_factory=dict)
    quirks: RedfishQuirks = field(default_factory=RedfishQuirks)
    powered_at: float = float("-inf")

    def answer(self, request: Request) -> Answer:
        """The answer to any request."""
        try:
            return self._answer(request)
        except Problem as problem:
            return problem.answer

    def _answer(self, request: Request) -> Answer:
        path = request.path
        user = None if (request.method, path) in _OPEN else self._who(request)
        if request.method == "GET":
            return self._get(path)
        if user is not None and user.privilege < 3 and path != f"{ROOT}/SessionService/Sessions":
            raise Problem(403, "InsufficientPrivilege", "The account may only read.")
        if request.method == "POST":
            return self._post(request)
        if request.method == "PATCH":
            return self._patch(request, user)
        if request.method == "DELETE" and path.startswith(f"{ROOT}/SessionService/Sessions/"):
            self.sessions.pop(path.rsplit("/", 1)[1], None)
            return Answer(204)
        raise Problem(405, "OperationNotAllowed", f"{request.method} is not allowed here.")

    # Who asks

    def _who(self, request: Request) -> User:
        if token := request.headers.get("x-auth-token"):
            for session in self.sessions.values():
                if hmac.compare_digest(session.token, token) and request.now - session.last_seen < SESSION_S:
                    session.last_seen = request.now
                    return session.user
            raise _unauthorized()
        scheme, _, rest = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() == "basic":
            try:
                name, _, password = base64.b64decode(rest, validate=True).partition(b":")
            except ValueError:
                raise _unauthorized() from None
            return self._login(name, password)
        raise _unauthorized()

    def _login(self, name: bytes, password: bytes) -> User:
        user = self.bmc.users.find(name)
        fits = user is not None and hmac.compare_digest(user.password, password)
        if user is None or not fits or self.bmc.quirks.wrong_password:
            raise _unauthorized()
        return user

    def _new_session(self, request: Request) -> Answer:
        body = request.json()
        name, password = body.get("UserName"), body.get("Password")
        if not isinstance(name, str) or not isinstance(password, str):
            raise Problem(400, "PropertyMissing", "UserName and Password are required.")
        user = self._login(name.encode(), password.encode("utf-8", "surrogateescape"))
        live = {k: s for k, s in self.sessions.items() if request.now - s.last_seen < SESSION_S}
        if len(live) >= MAX_SESSIONS or not self.bmc.max_sessions:
            raise Problem(503, "SessionLimitExceeded", "There are no free sessions.")
        number = secrets.token_hex(4)
        self.sessions = {**live, number: Session(secrets.token_hex(16), user, request.now)}
        path = f"{ROOT}/SessionService/Sessions/{number}"
        headers = {"X-Auth-Token": self.sessions[number].token, "Location": path}
        return Answer(201, _session(path, user), headers)

    # What is asked

    def _get(self, path: str) -> Answer:
        document = self._document(path)
        tag = etag(document)
        return Answer(200, {**document, "@odata.etag": tag}, {"ETag": tag})

    def _document(self, path: str) -> Doc:
        if path in ("", "/redfish"):
            return {"v1": f"{ROOT}/"}
        if path == ROOT:
            return self._root()
        if path.startswith(f"{ROOT}/SessionService"):
            return self._session_document(path)
        for table in (systems.RESOURCES, managers.RESOURCES):
            if getter := table.get(path):
                return getter(self)
        return next(
            (d for part in (systems, managers, accounts) if (d := part.find(self, path)) is not None), None
        ) or (self._nothing(path))

    def _nothing(self, path: str) -> Doc:
        raise missing(path)

    def _root(self) -> Doc:
        me = self.bmc.identity
        names = ("Systems", "Chassis", "Managers", "SessionService", "AccountService")
        return {
            **resource(ROOT, "ServiceRoot.v1_9_0.ServiceRoot", "Root Service"),
            "Id": "RootService",
            "RedfishVersion": "1.11.0",
            "UUID": str(me.uuid),
            "Vendor": me.vendor,
            "Product": me.product,
            **{name: link(f"{ROOT}/{name}") for name in names},
            "Links": {"Sessions": link(f"{ROOT}/SessionService/Sessions")},
        }

    def _session_document(self, path: str) -> Doc:
        base = f"{ROOT}/SessionService"
        if path == base:
            kind = "SessionService.v1_1_6.SessionService"
            service = {"ServiceEnabled": True, "SessionTimeout": int(SESSION_S), "Sessions": link(f"{base}/Sessions")}
            return resource(base, kind, "Session Service", **service)
        if path == f"{base}/Sessions":
            return collection(path, "SessionCollection", [f"{path}/{number}" for number in self.sessions])
        if (session := self.sessions.get(path.removeprefix(f"{base}/Sessions/"))) is not None:
            return _session(path, session.user)
        raise missing(path)

    def _post(self, request: Request) -> Answer:
        if request.path == f"{ROOT}/SessionService/Sessions":
            return self._new_session(request)
        action = systems.ACTIONS.get(request.path) or managers.ACTIONS.get(request.path)
        if action is None:
            self._document(request.path)
            raise Problem(405, "OperationNotAllowed", "POST is not allowed here.")
        action(self, request.json(), request.now)
        return Answer(204)

    def _patch(self, request: Request, user: User | None) -> Answer:
        current = etag(self._document(request.path))
        expected = request.headers.get("if-match")
        if expected is None and self.quirks.etag_required:
            raise Problem(428, "PreconditionRequired", "If-Match is required.")
        if expected not in (None, "*", current):
            raise Problem(412, "PreconditionFailed", "The resource has changed: the ETag does not match.")
        body = request.json()
        for part in (systems, accounts):
            if part.patch(self, request.path, body, request.now):
                return self._get(request.path)
        raise Problem(405, "OperationNotAllowed", "PATCH is not allowed here.")


def _unauthorized() -> Problem:
    return Problem(
        401, "NoValidSession", "Wrong or missing credentials.", {"WWW-Authenticate": 'Basic realm="Redfish"'}
    )


def _session(path: str, user: User) -> Doc:
    name = user.name.decode("utf-8", "replace")
    return resource(path, "Session.v1_2_1.Session", "User Session", UserName=name, RoleId=_ROLE.get(user.privilege))
