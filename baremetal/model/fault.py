"""A fault stands beside a node's state and says what stopped it.

Shared with the node's agents: standard library only, Python 3.9.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Any, Dict


@dataclass(frozen=True)
class Fault:
    """What happened, what was seen, what to do next.

    `code` is stable kebab-case (`bmc-auth`, `image-chunk-corrupt`). `since` is
    Unix seconds of the first sight, `attempts` how often it was tried.
    `evidence` holds small facts (JSON, at most 4 KiB), never secrets.
    """

    code: str
    brief: str
    detail: str = ""
    fix: str = ""
    since: float = 0.0
    attempts: int = 1
    evidence: Dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.code or not self.brief:
            raise ValueError("a fault has a code and says what happened")

    def to_json(self) -> Dict[str, Any]:
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, doc: Dict[str, Any]) -> "Fault":
        known = {f.name for f in dataclasses.fields(cls)}
        return cls(**{k: v for k, v in doc.items() if k in known})
