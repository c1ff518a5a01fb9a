"""From a verified document to a configured machine, or back to where it was.

collect (documents to the cache) → render everything → stage, check →
pre-configure scripts → rename all → configure, post-configure, migration
scripts → done. Whatever fails, the files go back, the cache goes back, and the
scripts run once more on what was good before. One call, one ConfigReport.
"""

from __future__ import annotations

import contextlib
import os
import time
from typing import Any, Dict, List, NamedTuple, Optional, Tuple

from baremetal.agents.apply import lock
from baremetal.agents.apply.cli import TEMPLATES
from baremetal.agents.apply.diff import mask, secrets_in
from baremetal.agents.apply.files import Change
from baremetal.agents.apply.manifest import Manifest
from baremetal.agents.apply.metadata import merge
from baremetal.agents.apply.render import Planned, Renderer
from baremetal.agents.apply.transaction import Transaction, changes_for
from baremetal.agents.collect.cache import Cache
from baremetal.agents.collect.options import CACHE
from baremetal.agents.collect.split import Source, split
from baremetal.agents.refresh.phases import BASE, PHASES, Failure, Run, Runner, Script
from baremetal.agents.resident.facts import facts
from baremetal.agents.trouble import to_fault
from baremetal.errors import BaremetalError
from baremetal.model.fault import Fault
from baremetal.protocol.agent import ConfigReport

APPLIED, UNCHANGED, FAILED, DRIFT = "applied", "unchanged", "failed", "drift"
# The script by which os-refresh-config calls os-apply-config (element os-apply-config, ours and TripleO's).
DONE_BY_US = ("20-os-apply-config",)
MOST_FILES = 2000  # of a report


class PhaseFailed(BaremetalError):
    """A script of a phase failed; the files are as before."""

    code = "config-script"


class EmptyMetadata(BaremetalError):
    """Nothing at all came where there was something: never applied."""

    code = "metadata-empty"


class Places(NamedTuple):
    """Where things are on this machine."""

    state: str
    templates: str = TEMPLATES
    output: str = "/"
    cache: str = CACHE
    phases: str = BASE
    script_s: float = 900.0
    total_s: float = 1800.0


class Converger:
    """Brings this machine to a document. Keeps parsed templates between calls."""

    def __init__(self, places: Places) -> None:
        self.places = places
        self.renderer = Renderer()
        self.cache = Cache(places.cache, indent=None)
        self.manifest = Manifest(os.path.join(places.state, "manifest.json"))

    def converge(
        self,
        generation: int,
        sources: List[Source],
        *,
        before: Optional[List[Source]] = None,
        force: bool = False,
    ) -> ConfigReport:
        """Apply these sources (lowest priority first). `before`: what is applied now, None on first boot.

        Scripts run when a document or a file changed, or with `force`.
        """
        begun = time.monotonic()
        attempt = _Attempt(self, sources, before, force)
        fault: Optional[Fault] = None
        try:
            with lock.held(self.places.state):
                attempt.run()
            outcome = APPLIED if attempt.ran or attempt.changes else UNCHANGED
        except Exception as exc:
            outcome, fault = FAILED, _masked(to_fault(exc), attempt.secrets)
            attempt.note_recovery(fault)
        return ConfigReport(
            metadata_generation=generation,
            outcome=outcome,
            files=_files(attempt.plan, attempt.changes),
            scripts=_scripts(attempt),
            seconds=round(time.monotonic() - begun, 3),
            fault=fault.to_json() if fault is not None else None,
            facts=facts(),
        )

    def drift(self) -> List[Dict[str, str]]:
        """Files of ours that somebody else changed."""
        return [{"path": d.path, "what": d.what} for d in self.manifest.drift()]


class _Attempt:
    """One try, and what is known of it so far."""

    def __init__(self, owner: Converger, sources: List[Source], before: Optional[List[Source]], force: bool) -> None:
        self.owner = owner
        self.places = owner.places
        self.sources = sources
        self.before = before
        self.force = force
        self.plan: List[Planned] = []
        self.changes: List[Change] = []
        self.scripts: List[Script] = []
        self.ran = False
        self.recovered: Optional[Failure] = None
        self.recovery_ran = False

    @property
    def secrets(self) -> "set[str]":
        """What must not appear in a report."""
        return secrets_in([content for _, content in self.sources])

    def run(self) -> None:
        values = merged(self.sources)
        self.plan = self.owner.renderer.render(self.places.templates, self.places.output, values)
        self.changes = changes_for(self.plan, self.owner.manifest, prune=True)
        if not self.changes and not self.force and self.sources == self.before:
            return
        transaction = Transaction(self.changes, self.places.state, "agent")
        transaction.stage()
        self._collect(self.sources)
        committed = False
        try:
            self._phases(PHASES[:1])
            transaction.commit()
            committed = True
            self._phases(PHASES[1:])
        except BaseException as exc:
            self._back(transaction, committed, isinstance(exc, Exception))
            raise
        transaction.finish()
        self.owner.manifest.update(self.plan, [change.path for change in self.changes])
        self.owner.cache.commit([name for name, _ in self.sources])
        self._forget_others()

    def _collect(self, sources: List[Source]) -> List[str]:
        for name, content in sources:
            self.owner.cache.store(name, content)
        return self.owner.cache.list([name for name, _ in sources])

    def _phases(self, phases: Tuple[str, ...]) -> None:
        result = self._runner(self.sources).run(phases)
        self.scripts += result.scripts
        self.ran = self.ran or bool(result.scripts)
        if result.failure is not None:
            raise _phase_failed(result.failure)

    def _runner(self, sources: List[Source]) -> Runner:
        paths = [self.owner.cache.path(name) for name, _ in sources]
        environment = dict(os.environ, OS_CONFIG_FILES=":".join(paths))
        environment["BAREMETAL_AGENT_LOCK"] = lock.environment(self.places.state)
        environment["OS_REFRESH_CONFIG_BASE_DIR"] = self.places.phases
        environment.setdefault("HOME", "/root")
        environment.setdefault("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
        return Runner(
            self.places.phases,
            environment,
            total_s=self.places.total_s,
            script_s=self.places.script_s,
            keep=True,
            skip=DONE_BY_US,
        )

    def _back(self, transaction: Transaction, committed: bool, run_again: bool) -> None:
        """Files first, then the documents, then error.d and the phases on what was good before."""
        if committed or transaction.record is not None or transaction.made:
            transaction.undo()
        if self.before is not None:
            with contextlib.suppress(OSError):  # a full disk: the next run writes them
                self._collect(self.before)
        if not run_again:
            return
        self._runner(self.sources).errors()
        if committed and self.before is not None and self.ran:
            again: Run = self._runner(self.before).run()
            self.recovery_ran, self.recovered = True, again.failure

    def note_recovery(self, fault: Fault) -> None:
        """Say in the fault how the return to the last good configuration went."""
        if self.recovery_ran:
            failed = self.recovered
            text = "scripts ran again on the last good configuration"
            fault.evidence["recovery"] = text if failed is None else f"{failed.phase}.d/{failed.script}: {failed.why}"

    def _forget_others(self) -> None:
        """Cached documents of sources that are no more: their secrets go too."""
        wanted = {name for name, _ in self.sources}
        for name, _ in self.before or []:
            if name in wanted:
                continue
            for suffix in ("", ".last", ".orig"):
                path = self.owner.cache.path(name) + suffix
                if os.path.exists(path):
                    os.unlink(path)


def sources_of(values: Dict[str, Any], deployments: List[Any], ec2: Optional[Dict[str, Any]] = None) -> List[Source]:
    """What templates see, lowest priority first: EC2 data of the config drive, our values, each deployment."""
    document = {**values, "deployments": deployments} if deployments else dict(values)
    found = split("baremetal", document, ["deployments"])
    return [("ec2", ec2), *found] if ec2 else found


def merged(sources: List[Source]) -> Dict[str, Any]:
    """One document of all sources, as reading the cached files would give."""
    result: Dict[str, Any] = {}
    for name, content in sources:
        if isinstance(content, dict):
            result = merge(result, content, name)
    return result


def _phase_failed(failure: Failure) -> PhaseFailed:
    where = f"{failure.phase}.d/{failure.script}" if failure.script else f"{failure.phase}.d"
    return PhaseFailed(
        f"{where} failed: {failure.why}; the files are as before",
        detail=failure.tail,
        fix="mend the script or its metadata; the agent tries again, at once when the metadata changes",
    )


def _masked(fault: Fault, secrets: "set[str]") -> Fault:
    return Fault(
        fault.code,
        mask(fault.brief, secrets),
        mask(fault.detail, secrets),
        fault.fix,
        fault.since,
        fault.attempts,
        fault.evidence,
    )


def _files(plan: List[Planned], changes: List[Change]) -> List[Dict[str, Any]]:
    changed = {c.path: c.kind for c in changes}
    found = [{"path": path, "change": kind} for path, kind in changed.items()]
    found += [{"path": p.path, "change": "same"} for p in plan if p.path not in changed]
    return found[:MOST_FILES]


def _scripts(attempt: _Attempt) -> List[Dict[str, Any]]:
    return [_script(script, attempt) for script in attempt.scripts]


def _script(script: Script, attempt: _Attempt) -> Dict[str, Any]:
    outcome = script.outcome
    tail = mask(outcome.tail, attempt.secrets)[-2000:] if outcome.exit or outcome.timed_out else ""
    return {
        "phase": script.phase,
        "name": script.name,
        "exit": outcome.exit,
        "seconds": round(outcome.seconds, 3),
        "tail": tail,
    }
