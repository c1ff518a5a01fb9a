"""Metadata beyond merging: where a value comes from, what changed, references, generated secrets, roll-out. Pure.

A value may be a *directive*, an object with one key that starts with `$`:

    {"$nodes": "role=controller", "give": "addresses"}   facts of other nodes (GIVES)
    {"$generate": "password", "scope": "site", "length": 32, "version": 1}   a secret that stays the same (KINDS)
    {"$secret": "ldap-bind"}   a secret that the operator stored, of the node, its role or the site

Directives are resolved when a node's document is composed, after merging.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import uuid
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from baremetal.errors import UsageError

# hosts_file: lines for /etc/hosts; first: the bootstrap node's name; is_first: am I it?
GIVES = ("addresses", "names", "hosts", "hosts_file", "first", "first_address", "is_first", "count")
KINDS = ("password", "hex", "uuid", "ssh-key")
SCOPES = ("node", "role", "site")
ALPHABET = "ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz23456789"  # nothing that looks like something else
MAX_DEPTH = 64
MASK = "******"
_SECRET_NAME = re.compile(r"(?i)(passw(or)?d|secret|token|private|api_?key|access_?key)")


@dataclass(frozen=True)
class Origin:
    """One leaf of the merged values: its dotted path, its value, the layer it came from, and what that hid."""

    path: str
    value: Any
    layer: str
    hides: tuple[tuple[str, Any], ...] = ()


@dataclass(frozen=True)
class Difference:
    """One leaf that differs. `kind`: added, removed, changed."""

    path: str
    kind: str
    old: Any = None
    new: Any = None


@dataclass(frozen=True)
class Peer:
    """What a directive may know of another node."""

    name: str
    address: str | None
    labels: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Site:
    """What directives are resolved with: all nodes, who asks, and the key generated secrets are derived from."""

    peers: Sequence[Peer]
    node: str
    role: str = ""
    key: bytes = b""
    secrets: Mapping[str, str] = field(default_factory=dict)  # what this node may know, by name
    ssh_key: Callable[[bytes], Any] | None = None  # 32 bytes of seed -> {"private", "public"}


def explain(layers: Iterable[tuple[str, Mapping[str, Any]]]) -> list[Origin]:
    """Every leaf of the merged values, by path. `layers` lowest first; null removes, lists are leaves."""
    found: dict[str, Origin] = {}
    for layer, values in layers:
        for path, value in leaves(values):
            inside = [o for p, o in found.items() if p.startswith(f"{path}.")]
            if inside and isinstance(value, Mapping):
                continue  # an empty object laid on an object changes nothing
            hidden = inside + [o for p, o in found.items() if p == path or path.startswith(f"{p}.")]
            for origin in hidden:
                del found[origin.path]
            if value is not None:
                below = tuple(pair for o in hidden for pair in (*o.hides, (o.layer, o.value)))
                found[path] = Origin(path, value, layer, below)
    return [found[path] for path in sorted(found)]


def leaves(values: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """(dotted path, value) of everything that is no non-empty object."""
    if isinstance(values, Mapping) and values and not _directive(values):
        for key, value in values.items():
            yield from leaves(value, f"{path}.{key}" if path else str(key))
    elif path:
        yield path, values


def difference(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[Difference]:
    """Leaf by leaf, by path."""
    before, after = dict(leaves(old)), dict(leaves(new))
    found = []
    for path in sorted({**before, **after}):
        if path not in after:
            found.append(Difference(path, "removed", before[path]))
        elif path not in before:
            found.append(Difference(path, "added", new=after[path]))
        elif before[path] != after[path] or type(before[path]) is not type(after[path]):
            found.append(Difference(path, "changed", before[path], after[path]))
    return found


# --- directives -------------------------------------------------------------


def resolve(values: Mapping[str, Any], site: Site) -> dict[str, Any]:
    """Every directive replaced by what it stands for; UsageError names the path of a wrong one."""
    result = _resolved(values, site, "", 0)
    if not isinstance(result, dict):
        raise UsageError("the whole document is a directive", fix="put it below a key")
    return result


def refers_to_nodes(values: Any) -> bool:
    """Must this be composed again when another node changes?"""
    if isinstance(values, Mapping):
        return "$nodes" in values or any(refers_to_nodes(v) for v in values.values())
    return isinstance(values, list) and any(refers_to_nodes(v) for v in values)


def _resolved(value: Any, site: Site, path: str, depth: int) -> Any:
    if depth > MAX_DEPTH:
        raise UsageError(f"{path}: nested deeper than {MAX_DEPTH}")
    if isinstance(value, Mapping):
        directive = _directive(value)
        if directive:
            return _DIRECTIVES[directive](value, site, path)
        return {k: _resolved(v, site, f"{path}.{k}" if path else k, depth + 1) for k, v in value.items()}
    if isinstance(value, list):
        return [_resolved(v, site, f"{path}.{i}", depth + 1) for i, v in enumerate(value)]
    return value


def _directive(value: Mapping[str, Any]) -> str:
    return next((key for key in value if key in _DIRECTIVES), "")


def _nodes(value: Mapping[str, Any], site: Site, path: str) -> Any:
    """Nodes by label (`label=value`, several with commas), in the order of their names."""
    wanted = _selector(value["$nodes"], path)
    give = value.get("give", "addresses")
    if give not in GIVES:
        raise UsageError(f"{path}: $nodes gives {', '.join(GIVES)}, not {give!r}")
    found = sorted((p for p in site.peers if wanted.items() <= p.labels.items()), key=lambda p: p.name)
    with_address = [p for p in found if p.address]
    first = found[0] if found else None
    facts: dict[str, Any] = {
        "addresses": [p.address for p in with_address],
        "names": [p.name for p in found],
        "hosts": [{"address": p.address, "name": p.name} for p in with_address],
        "hosts_file": "".join(f"{p.address} {p.name}\n" for p in with_address),
        "first": first.name if first else None,
        "first_address": first.address if first else None,
        "is_first": first is not None and first.name == site.node,
        "count": len(found),
    }
    return facts[give]


def _selector(text: Any, path: str) -> dict[str, str]:
    found = {}
    for part in str(text).split(","):
        key, equals, value = part.strip().partition("=")
        if not equals or not key:
            raise UsageError(f"{path}: $nodes wants label=value, not {part!r}")
        found[key] = value
    return found


def _generate(value: Mapping[str, Any], site: Site, path: str) -> Any:
    """A secret derived from the site's key: the same for ever, another with another `version`."""
    kind, scope = value["$generate"], value.get("scope", "site")
    length, version = value.get("length", 32), value.get("version", 1)
    if kind not in KINDS or scope not in SCOPES:
        raise UsageError(f"{path}: $generate makes {', '.join(KINDS)} with scope {', '.join(SCOPES)}")
    if isinstance(length, bool) or not isinstance(length, int) or not 12 <= length <= 256:
        raise UsageError(f"{path}: a generated secret has 12 to 256 characters, not {length!r}")
    if not site.key:
        raise UsageError(f"{path}: there is no key to derive a secret from")
    owner = {"node": site.node, "role": site.role, "site": ""}[scope]
    purpose = f"{scope}|{owner}|{path}|{version}"
    if kind == "password":
        return derived(site.key, purpose, length)
    raw = _stream(site.key, f"{kind}|{purpose}")
    if kind == "hex":
        return b"".join(next(raw) for _ in range(4)).hex()[:length]
    seed = next(raw)
    if kind == "uuid":
        return str(uuid.UUID(bytes=seed[:16], version=4))
    if site.ssh_key is None:
        raise UsageError(f"{path}: SSH keys cannot be made here")
    return site.ssh_key(seed)


def _stream(key: bytes, purpose: str) -> Iterator[bytes]:
    """Blocks of 32 bytes: HMAC-SHA256 in counter mode."""
    block = 0
    while True:
        yield hmac.new(key, f"{purpose}|{block}".encode(), hashlib.sha256).digest()
        block += 1


def _secret(value: Mapping[str, Any], site: Site, path: str) -> str:
    name = str(value["$secret"])
    if name not in site.secrets:
        raise UsageError(
            f"{path}: {site.node or 'the node'} has no secret {name!r}",
            fix=f"baremetal metadata secret set {site.node or '--site'} {name}",
        )
    return site.secrets[name]


def is_secret_name(key: str) -> bool:
    """Does this key name a value that should not be shown?"""
    return _SECRET_NAME.search(key) is not None


def secret_paths(values: Any, path: str = "") -> list[str]:
    """Dotted paths below which a directive makes a secret."""
    if isinstance(values, Mapping):
        if "$generate" in values or "$secret" in values:
            return [path]
        return [p for k, v in values.items() for p in secret_paths(v, f"{path}.{k}" if path else str(k))]
    if isinstance(values, list):
        return [p for i, v in enumerate(values) for p in secret_paths(v, f"{path}.{i}")]
    return []


def masked(values: Any, secrets: Collection[str], path: str = "") -> Any:
    """The same values, with stars for what is secret by its path or by its name."""
    if path in secrets:
        return MASK
    if isinstance(values, Mapping):
        return {
            k: MASK
            if isinstance(v, str) and v and is_secret_name(str(k))
            else masked(v, secrets, f"{path}.{k}" if path else str(k))
            for k, v in values.items()
        }
    if isinstance(values, list):
        return [masked(v, secrets, f"{path}.{i}") for i, v in enumerate(values)]
    return values


def derived(key: bytes, purpose: str, length: int) -> str:
    """`length` characters of ALPHABET by HMAC-SHA256 in counter mode, without modulo bias."""
    found: list[str] = []
    blocks = _stream(key, f"password|{purpose}")
    limit = 256 - 256 % len(ALPHABET)
    while len(found) < length:
        digest = next(blocks)
        found += [ALPHABET[byte % len(ALPHABET)] for byte in digest if byte < limit]
    return "".join(found[:length])


_DIRECTIVES = {"$nodes": _nodes, "$generate": _generate, "$secret": _secret}


# --- one line for the whole rack ---------------------------------------------


@dataclass(frozen=True)
class Applied:
    """What one node reported: the generation it should have, has, and how the last try went ("" none yet).

    `where`: the script or file that failed.
    """

    name: str
    wanted: int
    applied: int
    outcome: str = ""
    brief: str = ""
    where: str = ""

    @property
    def good(self) -> bool:
        """Has it what it should have?"""
        return self.outcome in ("applied", "unchanged", "drift") and self.applied >= self.wanted


def summary(nodes: Sequence[Applied]) -> str:
    """`37 of 40 on generation 12; 2 applying; r1-u07 failed in 51-keystone, rolled back`."""
    good = [n for n in nodes if n.good]
    bad = [n for n in nodes if n.outcome == "failed"]
    drifted = [n for n in good if n.outcome == "drift"]
    waiting = len(nodes) - len(good) - len(bad)
    wanted = {n.wanted for n in nodes}
    where = f"on generation {wanted.pop()}" if len(wanted) == 1 else "on their newest generation"
    parts = [f"{len(good)} of {len(nodes)} {where}"]
    if waiting:
        parts.append(f"{waiting} applying")
    parts += [f"{n.name} failed{_place(n)}, rolled back" for n in bad[:5]]
    if len(bad) > 5:
        parts.append(f"and {len(bad) - 5} more failed")
    if drifted:
        names = ", ".join(n.name for n in drifted[:5]) + (" …" if drifted[5:] else "")
        parts.append(f"files changed by hand on {names}")
    return "; ".join(parts)


def _place(node: Applied) -> str:
    if node.where:
        return f" in {node.where}"
    return f" ({node.brief})" if node.brief else ""


@dataclass(frozen=True)
class Step:
    """What a roll-out does next: hand the change to `give`, or wait, or stop for good."""

    give: tuple[str, ...] = ()
    done: bool = False
    stopped: str = ""
    because: str = ""


def next_step(order: Sequence[str], outcomes: Mapping[str, str], *, canary: int, batch: int) -> Step:
    """The next nodes of a staged change. `outcomes`: node -> "" while applying, applied, failed; absent: not given yet.

    First `canary` nodes, then `batch` at a time; each group must be good before the next begins.
    """
    failed = [name for name in order if outcomes.get(name) == "failed"]
    if failed:
        return Step(stopped=failed[0], because=f"{failed[0]} failed: the other nodes keep what they have")
    given = [name for name in order if name in outcomes]
    open_ones = [name for name in given if not outcomes[name]]
    if open_ones:
        return Step(
            because=f"waiting for {open_ones[0]}" + (f" and {len(open_ones) - 1} more" if open_ones[1:] else "")
        )
    left = [name for name in order if name not in outcomes]
    if not left:
        return Step(done=True, because=f"all {len(order)} nodes have it")
    size = canary if len(given) < canary else batch
    return Step(
        give=tuple(left[: max(1, size - (len(given) if len(given) < canary else 0))]), because="the last ones are good"
    )


def batch_size(text: str, total: int) -> int:
    """`10%` or `4` nodes at a time; at least one."""
    try:
        number = int(text.removesuffix("%"))
    except ValueError as exc:
        raise UsageError(f"a batch is a number of nodes or a percentage, not {text!r}") from exc
    if number <= 0:
        raise UsageError("a batch has at least one node")
    return max(1, total * number // 100) if text.endswith("%") else number
