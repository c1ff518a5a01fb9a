"""The life of a node as a table: what may be asked where, and what it leads to (Ironic's own table beside ours)."""

from __future__ import annotations

from dataclasses import replace

import pytest

from baremetal import lifecycle
from baremetal.errors import Refused
from baremetal.lifecycle import Phase, Verb
from baremetal.model.fault import Fault
from baremetal.model.node import Node, State, Wait

# Ironic's transitions that a client may ask for: states.py of the release studied (Ironic 39).
IRONIC = {
    "enroll": {"manage"},
    "manageable": {"inspect", "provide", "clean", "adopt"},
    "inspect wait": {"abort"},
    "inspect failed": {"manage", "inspect"},
    "available": {"deploy", "manage"},
    "wait call-back": {"abort", "undeploy"},
    "deploy hold": {"unhold", "abort"},
    "deploy failed": {"deploy", "rebuild", "undeploy"},
    "active": {"rebuild", "undeploy", "rescue", "service"},
    "error": {"rebuild", "undeploy"},
    "clean wait": {"abort"},
    "clean hold": {"unhold", "abort"},
    "clean failed": {"manage"},
    "adopt failed": {"adopt", "manage"},
    "rescue wait": {"abort", "undeploy"},
    "rescue": {"rescue", "unrescue", "undeploy"},
    "rescue failed": {"rescue", "unrescue", "undeploy"},
    "unrescue failed": {"rescue", "unrescue", "undeploy"},
    "service wait": {"abort", "undeploy"},
    "service hold": {"service", "unhold", "abort"},
    "service failed": {"service", "rescue", "undeploy", "abort"},
}


def at(name: str) -> Node:
    """A node that shows this Ironic state."""
    for state in State:
        for phase in Phase:
            if lifecycle.ironic_name(state, phase) == name and (phase is Phase.STABLE) == (state in lifecycle.STABLE):
                return node_in(state, phase)
    raise AssertionError(name)


def node_in(state: State, phase: Phase) -> Node:
    base = Node("id", "n1", state=state)
    if phase is Phase.STABLE:
        return base
    if phase is Phase.FAILED:
        return replace(base, fault=Fault("x", "x"))
    busy = replace(base, wanted="deploy", wanted_by="alice")
    if phase is Phase.HELD:
        return replace(busy, held="asked")
    return replace(busy, wait=Wait("w", 2.0, 1.0)) if phase is Phase.WAITING else busy


@pytest.mark.parametrize("name", IRONIC)
def test_every_verb_of_ironic_is_there_and_ours_are_marked(name: str) -> None:
    ours = {str(rule.verb) for rule in lifecycle.RULES if rule.at == name and rule.ours}
    allowed = {str(verb) for verb in lifecycle.allowed(at(name))}
    assert allowed - ours == IRONIC[name] - ours
    assert IRONIC[name] <= allowed


def test_every_state_and_phase_answers_every_verb() -> None:
    """Model-based: no combination is unanswered; a refusal always says something."""
    for state in State:
        for phase in Phase:
            if (phase is Phase.STABLE) != (state in lifecycle.STABLE):
                continue
            node = node_in(state, phase)
            assert lifecycle.phase(node) is phase
            for verb in Verb:
                if verb in lifecycle.allowed(node):
                    to = lifecycle.check(node, verb, now=10.0)
                    assert to in lifecycle.DONE or to in lifecycle.STABLE
                else:
                    with pytest.raises(Refused) as caught:
                        lifecycle.check(node, verb, now=10.0)
                    assert caught.value.brief
                    assert caught.value.fix


def test_every_failed_or_stable_state_has_a_way_out() -> None:
    for name in [*IRONIC, "manageable"]:
        assert lifecycle.allowed(at(name)), name


REFUSED = [  # state, flags, verb, what the refusal says
    ("enroll", {}, Verb.DEPLOY, "allowed now: manage"),
    ("manageable", {}, Verb.DEPLOY, "provide"),
    ("deploying", {}, Verb.PROVIDE, "alice"),
    ("available", {"maintenance": "disk swap"}, Verb.DEPLOY, "disk swap"),
    ("active", {"protected": True}, Verb.UNDEPLOY, "protected"),
    ("manageable", {"retired": True}, Verb.PROVIDE, "retired"),
    ("available", {"wanted": "deploy", "wanted_by": "bob", "wanted_since": 5.0}, Verb.MANAGE, "bob"),
]


@pytest.mark.parametrize(("name", "flags", "verb", "says"), REFUSED)
def test_a_refusal_says_what_is_allowed_or_who_is_first(name: str, flags: dict, verb: Verb, says: str) -> None:
    with pytest.raises(Refused) as caught:
        lifecycle.check(replace(at(name), **flags), verb, now=65.0)
    assert says in str(caught.value)


AFTER = [  # state, wanted, next
    (State.CLEANING, "provide", State.AVAILABLE),
    (State.CLEANING, "clean", State.MANAGEABLE),
    (State.CLEANING, "undeploy", State.AVAILABLE),
    (State.DELETING, "undeploy", State.CLEANING),
    (State.VERIFYING, "manage", State.MANAGEABLE),
    (State.SERVICING, "service", State.ACTIVE),
]


@pytest.mark.parametrize(("state", "wanted", "to"), AFTER)
def test_where_a_workflow_leads(state: State, wanted: str, to: State) -> None:
    assert lifecycle.after(state, wanted) is to


def test_ironics_spellings_are_verbs() -> None:
    assert lifecycle.parse_verb("active") is Verb.DEPLOY
    assert lifecycle.parse_verb("deleted") is Verb.UNDEPLOY
