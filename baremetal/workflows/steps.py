"""Steps as data, under Ironic's names and priorities; higher priority runs first, 0 only when asked for.

A workflow is a list of steps in a node's notebook. Users add their own from
the same table (`--step deploy.hold@61`), and hold between any two.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from typing import Any

from baremetal.errors import UsageError
from baremetal.workflows.outcome import Outcome
from baremetal.workflows.passes import Pass

Handler = Callable[[Pass], Awaitable[Outcome]]


@dataclass(frozen=True)
class Step:
    """One thing to do. `args` come from the request; `workflow` is the state it belongs to."""

    name: str
    priority: int
    args: dict[str, Any]

    def to_json(self) -> dict[str, Any]:
        """As kept in the node's notebook."""
        return {"name": self.name, "priority": self.priority, "args": self.args}


@dataclass(frozen=True)
class Known:
    """A step we can do. `takes` names the arguments it accepts."""

    name: str
    priority: int
    handler: Handler
    summary: str
    takes: tuple[str, ...] = ()


REGISTRY: dict[str, Known] = {}
# Names of earlier releases, so that a node in flight survives an upgrade.
RENAMED: dict[str, str] = {}


def step(name: str, priority: int, summary: str, takes: tuple[str, ...] = ()) -> Callable[[Handler], Handler]:
    """Register the handler of a step."""

    def register(handler: Handler) -> Handler:
        REGISTRY[name] = Known(name, priority, handler, summary, takes)
        return handler

    return register


def find(name: str) -> Known | None:
    """The step of this name, or of the name it has now."""
    return REGISTRY.get(RENAMED.get(name, name))


def plan(interface: str, asked: Iterable[dict[str, Any]] = (), *, without: Iterable[str] = ()) -> list[Step]:
    """The steps of one workflow: the built-in ones of `interface` plus those asked for, in order.

    A built-in step that is asked for too takes the asked priority and arguments
    (priority 0 drops it).
    """
    chosen = {
        known.name: Step(known.name, known.priority, {})
        for known in REGISTRY.values()
        if known.name.startswith(interface + ".") and known.priority > 0 and known.name not in set(without)
    }
    extra: list[Step] = []
    for doc in asked:
        wanted = parse(doc, interface)
        if wanted.name in chosen:
            chosen[wanted.name] = wanted
        elif wanted.priority > 0:
            extra.append(wanted)
    steps = [s for s in chosen.values() if s.priority > 0] + extra
    return sorted(steps, key=lambda s: -s.priority)


def parse(doc: dict[str, Any], interface: str) -> Step:
    """A step as requested (`{"interface", "step", "args", "priority"}`), checked against the table."""
    if not isinstance(doc, dict) or "step" not in doc:
        raise UsageError(f"a step is {{interface, step, args, priority}}, not {doc!r}")
    name = f"{doc.get('interface') or interface}.{doc['step']}"
    reserved = f"step.{doc['step']}"
    known = find(name) or find(reserved)
    if known is None:
        names = ", ".join(sorted(n for n in REGISTRY if n.split(".")[0] in (interface, "step")))
        raise UsageError(f"there is no step {name!r}", fix=f"known: {names}")
    args, priority = doc.get("args") or {}, doc.get("priority", known.priority or 50)
    if not isinstance(args, dict) or isinstance(priority, bool) or not isinstance(priority, int):
        raise UsageError(f"step {name}: args is a mapping, priority a whole number")
    unknown = set(args) - set(known.takes)
    if unknown:
        raise UsageError(
            f"step {name} takes no {', '.join(sorted(unknown))}", fix=f"it takes: {', '.join(known.takes) or 'nothing'}"
        )
    return Step(known.name, priority, args)


def load(notebook: list[dict[str, Any]]) -> list[Step]:
    """The steps as kept in the notebook."""
    return [Step(doc["name"], doc["priority"], doc["args"]) for doc in notebook]
