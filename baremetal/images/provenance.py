"""Where an image came from: an in-toto statement with SLSA provenance of one build."""

from __future__ import annotations

import datetime
import json
from collections.abc import Mapping, Sequence
from typing import Any

from baremetal.version import __version__


def statement(
    *,
    subjects: Mapping[str, str],
    definition: str,
    elements: Sequence[tuple[str, str]],
    layers: Sequence[tuple[str, str]],
    parameters: Mapping[str, Any],
    mirror: str,
    epoch: int,
) -> str:
    """The document. `subjects`: file -> sha256; `elements`: (name, digest); `layers`: (step, key)."""
    when = datetime.datetime.fromtimestamp(epoch, datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    materials = [{"uri": f"element:{name}", "digest": {"sha256": digest}} for name, digest in elements]
    materials.append({"uri": "apt:InRelease", "digest": {"sha256": mirror}})
    document = {
        "_type": "https://in-toto.io/Statement/v1",
        "subject": [{"name": name, "digest": {"sha256": digest}} for name, digest in sorted(subjects.items())],
        "predicateType": "https://slsa.dev/provenance/v1",
        "predicate": {
            "buildDefinition": {
                "buildType": "baremetal/image-build/v1",
                "externalParameters": {"definition": definition, **parameters},
                "resolvedDependencies": materials,
            },
            "runDetails": {
                "builder": {"id": f"baremetal/{__version__}"},
                "metadata": {"sourceDate": when},
                "byproducts": [{"name": f"layer:{step}", "digest": {"key": key}} for step, key in layers],
            },
        },
    }
    return json.dumps(document, indent=1, sort_keys=True) + "\n"
