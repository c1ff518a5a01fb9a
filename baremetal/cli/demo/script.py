"""What the demo does, as data: the commands a person would type, in order."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

GREETING_KEY = "greeting"
FIRST_GREETING = "Hello from bare metal"
CHANGED_GREETING = "Changed while it runs"


@dataclass(frozen=True)
class Act:
    """One command of the CLI. `says` is what it means, `done` when the whole rack shows it."""

    says: str
    argv: tuple[str, ...]


def acts(nodes: Sequence[str], instackenv: str, image: str, public_key: str) -> list[Act]:
    """From a list of BMC addresses to configured nodes."""
    return [
        Act("enroll: each BMC is asked who it is", ("node", "import", instackenv, "--wait")),
        Act(
            "metadata: what the nodes' configuration is made from",
            ("metadata", "set", "--site", f"{GREETING_KEY}={FIRST_GREETING}", f"ssh.keys.lab={public_key}"),
        ),
        Act("inspect: network boot, inventory", ("node", "inspect", *nodes, "--wait")),
        Act("provide: the listed disks are wiped", ("node", "provide", *nodes, "--wait")),
        Act(
            "deploy: the golden image goes to disk, the node boots it and configures itself",
            ("node", "deploy", *nodes, "--image", image, "--wait"),
        ),
    ]


def change(greeting: str) -> Act:
    """A changed value, for all nodes."""
    return Act("change: new metadata, the nodes converge", ("metadata", "set", "--site", f"{GREETING_KEY}={greeting}"))
