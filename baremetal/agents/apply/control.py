"""Control files: X.oac beside template X says mode, owner and more (YAML).

Keys of the original: mode, owner, group, allow_empty. Behind `version: 2`
ours adds: check (a command run on the new file before it is put in place, %s is
its path), missing (error | empty: what a missing mustache key is), secret (true:
never show this file in a diff). Unknown keys are an error.
"""

from __future__ import annotations

from typing import Any, Callable, Dict, NamedTuple, Optional

from baremetal.agents.apply.errors import BadControl

SUFFIX = ".oac"


class Control(NamedTuple):
    """What a control file asks for; None means: as it is, or the default."""

    mode: Optional[int] = None
    uid: Optional[int] = None
    gid: Optional[int] = None
    allow_empty: bool = True
    check: Optional[str] = None
    strict: Optional[bool] = None
    secret: bool = False


NOTHING = Control()


def read(template: str) -> Control:
    """The control file beside this template, or NOTHING."""
    path = template + SUFFIX
    try:
        with open(path, "rb") as f:
            raw = f.read(1024 * 1024)
    except FileNotFoundError:
        return NOTHING
    except OSError as exc:
        raise BadControl(f"cannot read control file {path}", detail=str(exc)) from exc
    return parse(raw, path)


def parse(raw: bytes, path: str) -> Control:
    """Turn YAML into a Control; `path` is for messages."""
    mapping = _yaml(raw, path)
    if mapping is None:
        return NOTHING
    if not isinstance(mapping, dict):
        raise BadControl(f"control file {path} is not a mapping")
    extended = mapping.get("version") == 2 and not isinstance(mapping.get("version"), bool)
    found: Dict[str, Any] = {}
    for key, value in mapping.items():
        if extended and key == "version":
            continue
        reader = _KEYS.get(key) or (_KEYS_2.get(key) if extended else None)
        if reader is None:
            raise BadControl(f"control file {path}: unknown key {key!r}", fix=_known_keys(extended))
        reader(found, value, path)
    return Control(**found)


def _yaml(raw: bytes, path: str) -> Any:
    if not raw.strip():
        return None
    import yaml  # 15 ms; most trees have no control file at all

    try:
        return yaml.safe_load(raw)
    except (yaml.YAMLError, UnicodeDecodeError, ValueError, RecursionError) as exc:
        raise BadControl(f"control file {path} is not YAML", detail=str(exc)) from exc


def _known_keys(extended: bool) -> str:
    return "known keys: " + ", ".join(list(_KEYS) + (list(_KEYS_2) if extended else []))


def _mode(found: Dict[str, Any], value: Any, path: str) -> None:
    if isinstance(value, bool) or not isinstance(value, int):
        raise BadControl(f"control file {path}: mode is a number such as 0644, not {value!r}")
    if not 0 <= value <= 0o777:
        raise BadControl(f"control file {path}: mode {value} is not between 0 and 0777", fix="write a leading zero")
    found["mode"] = value or None  # as the original: 0 is the same as not given


def _owner(found: Dict[str, Any], value: Any, path: str) -> None:
    import pwd

    found["uid"] = _account(value, path, "owner", lambda n: pwd.getpwuid(n).pw_uid, lambda n: pwd.getpwnam(n).pw_uid)


def _group(found: Dict[str, Any], value: Any, path: str) -> None:
    import grp

    found["gid"] = _account(value, path, "group", lambda n: grp.getgrgid(n).gr_gid, lambda n: grp.getgrnam(n).gr_gid)


def _account(value: Any, path: str, what: str, by_id: Callable[[int], int], by_name: Callable[[str], int]) -> int:
    try:
        if isinstance(value, int) and not isinstance(value, bool):
            return by_id(value)
        if isinstance(value, str):
            return by_name(value)
    except (KeyError, ValueError, OverflowError) as exc:
        raise BadControl(f"control file {path}: {what} {value!r} does not exist on this machine") from exc
    raise BadControl(f"control file {path}: {what} is a name or a number, not {value!r}")


def _flag(name: str) -> Callable[[Dict[str, Any], Any, str], None]:
    def reader(found: Dict[str, Any], value: Any, path: str) -> None:
        if not isinstance(value, bool):
            raise BadControl(f"control file {path}: {name} is true or false, not {value!r}")
        found[name] = value

    return reader


def _check(found: Dict[str, Any], value: Any, path: str) -> None:
    if not isinstance(value, str) or "%s" not in value:
        raise BadControl(f"control file {path}: check is a command with %s for the file, not {value!r}")
    found["check"] = value


def _missing(found: Dict[str, Any], value: Any, path: str) -> None:
    if value not in ("error", "empty"):
        raise BadControl(f"control file {path}: missing is error or empty, not {value!r}")
    found["strict"] = value == "error"


_KEYS = {"mode": _mode, "owner": _owner, "group": _group, "allow_empty": _flag("allow_empty")}
_KEYS_2 = {"check": _check, "missing": _missing, "secret": _flag("secret")}
