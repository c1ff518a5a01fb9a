"""What a machine would be told, step by step, and why: `baremetal boot explain`. Asks nobody, changes nothing."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any

from baremetal.boot import ipxe
from baremetal.boot.decide import Urls, decide
from baremetal.errors import BaremetalError
from baremetal.model.boot import BootRecord, Client, Ignore, Loader, LoadFile, LocalDisk, Script
from baremetal.model.network import Network
from baremetal.serve.loaders import LoaderTree
from baremetal.wire.dhcp4.templates import describe

EXAMPLE_NONCE = "one-time-nonce"


@dataclass(frozen=True)
class Step:
    """One question of the machine and our answer. `note` is a file's size, or what stands in the way."""

    asks: str
    answer: str
    because: str
    note: str = ""


@dataclass(frozen=True)
class Explanation:
    """All steps, and the script at their end ("" when there is none)."""

    node: str
    network: str
    steps: tuple[Step, ...]
    script: str = ""

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def explain(
    client: Client,
    record: BootRecord | None,
    network: Network,
    urls: Urls,
    tree: LoaderTree,
    templates: dict[str, str],
    https: str,
) -> Explanation:
    """From the firmware's first DISCOVER to the script."""
    steps: list[Step] = []
    decision = decide(client, record, network, urls)
    steps.append(Step(f"DHCP as {client.arch} {client.loader}", describe(decision), decision.because))
    if isinstance(decision, LoadFile):
        name = decision.name.rpartition("/")[2]
        by = "HTTP" if decision.name.startswith("http") else "TFTP"
        steps.append(Step(f"{name} by {by}", *_file(tree, name)))
        if name.startswith("shim"):
            return Explanation(_name(record), network.name, tuple(steps))
        client = replace(client, loader=Loader.IPXE)
        decision = decide(client, record, network, urls)
        steps.append(Step(f"DHCP as {client.arch} {client.loader}", describe(decision), decision.because))
    script = ""
    if isinstance(decision, Script) or (isinstance(decision, LocalDisk) and decision.script):
        script = _script(client, record, urls, templates, https)
    if isinstance(decision, Ignore):
        steps[-1] = replace(steps[-1], note="no answer is sent")
    return Explanation(_name(record), network.name, tuple(steps), script)


def _file(tree: LoaderTree, name: str) -> tuple[str, str, str]:
    file = tree.table.get(name)
    try:
        found = tree.get(name)
    except BaremetalError as exc:
        return "error", exc.brief, exc.fix
    if found is None or file is None:
        return "error", "not in pxe/loaders.toml", ""
    size = len(found) if isinstance(found, bytes) else found.stat().st_size
    return f"{size:,} bytes", f"pxe/loaders.toml names {file.path}", f"package {file.package}"


def _script(client: Client, record: BootRecord | None, urls: Urls, templates: dict[str, str], https: str) -> str:
    values = {
        "mac": client.mac,
        "mac_hyphens": client.mac.replace(":", "-"),
        "http": urls.http,
        "https": https,
        "http_host": urls.http.removeprefix("http://"),
        "nonce": EXAMPLE_NONCE,
        "script_url": urls.script_for(client.mac),
    }
    if record is None:
        values["because"] = "no node has this machine's addresses"
    return ipxe.render(templates[ipxe.template_name(record)], record, values)


def _name(record: BootRecord | None) -> str:
    return record.name if record is not None else ""
