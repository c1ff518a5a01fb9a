"""Accounts: the same user slots as IPMI's, with Redfish's role names."""

from __future__ import annotations

from typing import TYPE_CHECKING

from baremetal.lab.redfish.http import ROOT, Doc, Problem, bad_value, collection, link, resource
from baremetal.wire.ipmi.users import NAME_SIZE, PASSWORD_SIZE, SLOTS, User

if TYPE_CHECKING:
    from baremetal.lab.redfish.face import Face

SERVICE = f"{ROOT}/AccountService"
_ROLES = {"Administrator": 4, "Operator": 3, "ReadOnly": 2}
_ROLE_OF = {number: name for name, number in _ROLES.items()}


def find(face: Face, path: str) -> Doc | None:
    """Anything under AccountService."""
    if path == SERVICE:
        more = {"ServiceEnabled": True, "MaxPasswordLength": PASSWORD_SIZE, "MinPasswordLength": 0}
        links = {"Accounts": link(f"{SERVICE}/Accounts"), "Roles": link(f"{SERVICE}/Roles")}
        return resource(SERVICE, "AccountService.v1_7_0.AccountService", "Account Service", **more, **links)
    if path == f"{SERVICE}/Accounts":
        return collection(path, "ManagerAccountCollection", [f"{path}/{n}" for n, u in _slots(face) if u.name])
    if path == f"{SERVICE}/Roles":
        return collection(path, "RoleCollection", [f"{path}/{role}" for role in _ROLES])
    if path.startswith(f"{SERVICE}/Roles/") and (role := path.rsplit("/", 1)[1]) in _ROLES:
        rights = ["Login", "ConfigureSelf", "ConfigureComponents", "ConfigureManager", "ConfigureUsers"]
        return resource(
            path, "Role.v1_2_4.Role", role, AssignedPrivileges=rights[: _ROLES[role] + 1], IsPredefined=True
        )
    found = _account(face, path)
    return _document(path, found) if found else None


def patch(face: Face, path: str, body: Doc, now: float) -> bool:
    """Change an account."""
    user = _account(face, path)
    if user is None:
        return False
    if "RoleId" in body:
        if body["RoleId"] not in _ROLES:
            raise bad_value("RoleId", body["RoleId"])
        user.privilege = _ROLES[body["RoleId"]]
    if isinstance(name := body.get("UserName"), str):
        user.name = _text("UserName", name, NAME_SIZE)
    if isinstance(password := body.get("Password"), str):
        user.password = _text("Password", password, PASSWORD_SIZE)
    if "Enabled" in body:
        user.enabled = bool(body["Enabled"])
    return True


def _text(name: str, value: str, size: int) -> bytes:
    raw = value.encode("utf-8", "surrogateescape")
    if len(raw) > size:
        raise Problem(400, "StringValueTooLong", f"{name} is longer than {size} bytes.")
    return raw


def _slots(face: Face) -> list[tuple[int, User]]:
    return list(enumerate(face.bmc.users.slots, 1))


def _account(face: Face, path: str) -> User | None:
    number = path.removeprefix(f"{SERVICE}/Accounts/")
    known = {str(n) for n in range(1, SLOTS + 1)}
    return face.bmc.users[int(number)] if number in known else None


def _document(path: str, user: User) -> Doc:
    role = _ROLE_OF.get(user.privilege, "None")
    return resource(
        path,
        "ManagerAccount.v1_6_0.ManagerAccount",
        "User Account",
        UserName=user.name.decode("utf-8", "replace"),
        Password=None,
        RoleId=role,
        Enabled=user.enabled,
        Locked=False,
        Links={"Role": link(f"{SERVICE}/Roles/{role}")},
    )
