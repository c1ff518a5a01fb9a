"""A software bill of materials: CycloneDX 1.5 JSON from the list of packages."""

from __future__ import annotations

import datetime
import json
import uuid
from collections.abc import Sequence
from typing import TYPE_CHECKING
from urllib.parse import quote

from baremetal.version import __version__

if TYPE_CHECKING:
    from baremetal.images.inventory import Package


def cyclonedx(name: str, packages: Sequence[Package], epoch: int) -> str:
    """The document; the same packages and epoch (s) give the same text."""
    components = [_component(package) for package in packages]
    body = json.dumps(components, sort_keys=True)
    serial = uuid.uuid5(uuid.NAMESPACE_URL, f"baremetal:{name}:{epoch}:{body}")
    when = datetime.datetime.fromtimestamp(epoch, datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    document = {
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "serialNumber": f"urn:uuid:{serial}",
        "version": 1,
        "metadata": {
            "timestamp": when,
            "tools": {"components": [{"type": "application", "name": "baremetal", "version": __version__}]},
            "component": {"type": "operating-system", "name": name, "bom-ref": f"image:{name}"},
        },
        "components": components,
    }
    return json.dumps(document, indent=1, sort_keys=True) + "\n"


def _component(package: Package) -> dict[str, object]:
    where = f"pkg:deb/debian/{quote(package.name)}@{quote(package.version)}?arch={package.arch}"
    return {
        "type": "library",
        "bom-ref": where,
        "purl": where,
        "name": package.name,
        "version": package.version,
        "supplier": {"name": package.maintainer},
        "properties": [{"name": "debian:source", "value": package.source}],
    }
