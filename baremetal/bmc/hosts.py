"""A list of BMCs as people write it: addresses, ranges, networks, files.

    10.0.0.17   10.0.0.0/23   10.0.0.10-10.0.0.60   10.0.0.10-60   bmc[001-200].example   ipmi://root@h   FILE

A file has one such word a line, `#` begins a comment; a nodes file (.json,
.yaml, .toml, .csv) brings its own users and passwords. Every line gets a
verdict: a line that cannot be read is a target with an error, not the end.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from baremetal.bmc.url import BmcUrl
from baremetal.errors import BaremetalError, UsageError
from baremetal.secrets import Secret

# A /16: more BMCs than one site has, and a mistake when it is more.
MOST_HOSTS = 65536
_BRACKET = re.compile(r"^(.*)\[(\d+)-(\d+)\](.*)$")
_SHORT_RANGE = re.compile(r"^(\d+\.\d+\.\d+\.)(\d+)-(\d+)$")
_NODES = {".json", ".yaml", ".yml", ".toml", ".csv"}


@dataclass(frozen=True)
class Target:
    """One BMC to talk to, or one word that is none: then `error` says why. `where` is file:line."""

    host: str
    url: BmcUrl | None = None
    password: Secret | None = None
    error: UsageError | None = None


# Names that are meant as files, not as hosts.
FILES = (".json", ".csv", ".toml", ".yaml", ".yml", ".txt")


def expand(
    words: list[str], *, scheme: str = "ipmi", user: str = "", options: dict[str, str] | None = None
) -> list[Target]:
    """All BMCs the words name, each once, in their order; `user` and `options` where the word has none."""
    found: dict[str, Target] = {}
    for word in _split(words):
        for target in _word(word, scheme, user, options or {}):
            found.setdefault(target.url.key if target.url else f"error {len(found)}", target)
            if len(found) > MOST_HOSTS:
                raise UsageError(f"more than {MOST_HOSTS} BMCs", fix="name a smaller network, or a file")
    if not found:
        raise UsageError("no BMC named", fix="--hosts 10.0.0.0/24, --hosts 10.0.0.10-60, or --hosts FILE")
    return list(found.values())


def _split(words: list[str]) -> Iterator[str]:
    for text in words:
        # A URL may hold commas in its options: a list is split there only where another URL begins.
        yield from filter(None, re.split(r"[,\s]+(?=[a-z+]+://)" if "://" in text else r"[,\s]+", text))


def _word(word: str, scheme: str, user: str, options: dict[str, str]) -> Iterator[Target]:
    path = Path(word.removeprefix("@"))
    if word.startswith("@") or ("://" not in word and path.is_file()):
        yield from _file(path, scheme, user, options)
        return
    if "://" not in word and path.suffix in FILES:
        raise UsageError(f"there is no file {word}", fix="--hosts 10.0.0.0/24, --hosts 10.0.0.10-60, or --hosts FILE")
    for host in addresses(word):
        yield _target(host, scheme, user, options)


def addresses(word: str) -> Iterator[str]:
    """The single addresses a word stands for."""
    if "://" in word:
        yield word
    elif match := _BRACKET.match(word):
        head, first, last, tail = match.groups()
        yield from (f"{head}{number:0{len(first)}d}{tail}" for number in _range(word, int(first), int(last)))
    elif match := _SHORT_RANGE.match(word):
        head, first, last = match.groups()
        yield from (f"{head}{number}" for number in _range(word, int(first), int(last)))
    elif "/" in word:
        yield from _network(word)
    elif "-" in word and _is_address(word.partition("-")[0]):
        low, high = (ipaddress.ip_address(part) for part in word.split("-", 1))
        yield from (str(ipaddress.ip_address(number)) for number in _range(word, int(low), int(high)))
    else:
        yield word


def _range(word: str, first: int, last: int) -> range:
    if last < first:
        raise UsageError(f"range {word} runs backwards", fix="write the smaller one first")
    if last - first >= MOST_HOSTS:
        raise UsageError(f"range {word} has more than {MOST_HOSTS} addresses", fix="name a smaller one")
    return range(first, last + 1)


def _network(word: str) -> Iterator[str]:
    try:
        network = ipaddress.ip_network(word, strict=False)
    except ValueError:
        raise UsageError(f"{word[:80]!r} is no network and no file", fix="write it like 10.0.0.0/24") from None
    if network.num_addresses > MOST_HOSTS:
        raise UsageError(
            f"{word} has {network.num_addresses} addresses", fix=f"at most {MOST_HOSTS}: a /16 (IPv6: /112)"
        )
    yield from (map(str, network.hosts()) if network.num_addresses > 2 else map(str, network))


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def _target(text: str, scheme: str, user: str, options: dict[str, str], where: str = "") -> Target:
    try:
        url = BmcUrl.parse(text if "://" in text else f"{scheme}://{_bracketed(text)}")
        if user and not url.user:
            url = replace(url, user=user)
        if options and url.scheme == scheme:
            url = url.with_options(**{**options, **url.options})
    except UsageError as exc:
        brief = f"{where}: {exc.brief}" if where else exc.brief
        shown = where or (text if "://" not in text and "@" not in text else "unreadable address")
        return Target(shown[:80], error=UsageError(brief, detail=exc.detail, fix=exc.fix))
    return Target(url.netloc, url)


def _bracketed(text: str) -> str:
    return f"[{text}]" if text.count(":") > 1 and not text.startswith("[") else text


def _file(path: Path, scheme: str, user: str, options: dict[str, str]) -> Iterator[Target]:
    if path.suffix.lower() in _NODES:
        yield from _nodes_file(path)
        return
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except OSError as exc:
        raise UsageError(f"{path}: cannot be read", detail=exc.strerror or str(exc)) from exc
    for number, line in enumerate(text.splitlines(), 1):
        word = line.partition("#")[0].strip()
        if not word:
            continue
        try:
            yield from (_target(host, scheme, user, options, f"{path.name}:{number}") for host in addresses(word))
        except (BaremetalError, ValueError) as exc:
            brief = exc.brief if isinstance(exc, BaremetalError) else "cannot be read"
            yield Target(f"{path.name}:{number}", error=UsageError(f"{path.name}:{number}: {brief}"))


def _nodes_file(path: Path) -> Iterator[Target]:
    from baremetal.bmc import nodesfile

    found, problems = nodesfile.load_some(path)
    for problem in problems:
        place = f"{path.name}:{problem.line or f'node {problem.index}'}"
        yield Target(place, error=UsageError(f"{path.name}: {problem}"))
    for node in found:
        url = BmcUrl.parse(node.bmc_url)
        yield Target(url.netloc, url, node.password)
