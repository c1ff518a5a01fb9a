"""The life of the resident agent: who am I, hello, hold a request, converge, report; for good.

Every trouble with the server is waited out with jitter, and never touches the
configuration that is in place. A document that fails is tried again at growing
intervals, and at once when a newer one comes.
"""

from __future__ import annotations

import contextlib
import json
import os
import time
from typing import Any, Callable, Dict, List, Optional

from baremetal.agents import inventory
from baremetal.agents.collect.split import Source
from baremetal.agents.http import ServerSaid, jitter
from baremetal.agents.resident import drive as drives
from baremetal.agents.resident import instance
from baremetal.agents.resident.converge import (
    DRIFT,
    FAILED,
    UNCHANGED,
    Converger,
    EmptyMetadata,
    Places,
    sources_of,
)
from baremetal.agents.resident.document import DocumentRefused, Documents, Verified, empty
from baremetal.agents.resident.facts import facts
from baremetal.agents.resident.identity import Identity, State, identify
from baremetal.agents.resident.notify import ready
from baremetal.agents.resident.status import Status
from baremetal.agents.resident.talk import DocumentTooLarge, Talk, dead_token
from baremetal.agents.trouble import to_fault
from baremetal.errors import BaremetalError
from baremetal.protocol.agent import ConfigReport
from baremetal.version import __version__

EC2_FILE = "ec2/latest/meta-data.json"
NETWORK_FILE = "openstack/latest/network_data.json"
DRIVE_DOCUMENT, DRIVE_SIGNATURE = "baremetal/metadata.json", "baremetal/metadata.sig"
HOLD_S = 55.0  # a held request; jittered, so that a rack does not come back in step
DRIFT_S = 600.0
RETRY_FIRST_S, RETRY_LONGEST_S = 30.0, 900.0
RECONNECT_FIRST_S, RECONNECT_LONGEST_S = 0.2, 30.0


class Agent:
    """One node. `say` gets a line of log; `candidates` are devices to look for a config drive on."""

    def __init__(
        self,
        places: Places,
        *,
        say: Callable[[str], None],
        candidates: Optional[List[str]] = None,
        root: str = "/",
    ) -> None:
        self.places = places
        self.say = say
        self.root = root
        self.state = State(places.state)
        self.status = Status(self.state)
        self.candidates = candidates
        self.drive = drives.find(candidates)
        self.identity = identify(self.state, self.drive)
        self.documents = Documents(self.state, self.identity)
        self.converger = Converger(places)
        self.talk = Talk(self.identity, self.state.token)
        self.failures = 0
        self.retry_at: Optional[float] = None
        self.drift_at = time.monotonic() + DRIFT_S * jitter()
        self.reported_drift: List[Any] = []
        self.owed: Optional[Dict[str, Any]] = None  # a report that the server has not got
        self.refused = ""  # the last refusal we reported; the server may offer the same again and again

    def run(self) -> None:
        """Never returns."""
        ready()
        self.say(f"this is {self.identity.name or self.identity.node}, server {', '.join(self.identity.urls)}")
        self.first_boot()
        pause = RECONNECT_FIRST_S
        while True:
            try:
                self.step()
                pause = RECONNECT_FIRST_S
            except (BaremetalError, OSError) as exc:  # OSError: a full or broken disk below the state directory
                self.say(f"{exc}".replace("\n", "; "))
                self.trouble(exc)
                if dead_token(exc):
                    self.state.drop("token")
                    self.talk.token = None
                    self.look_for_new_drive()
                time.sleep(pause * jitter())
                pause = min(pause * 2, RECONNECT_LONGEST_S)
                self.retry_if_due()

    def trouble(self, exc: Exception) -> None:
        """For `agent status`; when not even that can be written, the log has it."""
        with contextlib.suppress(OSError):
            self.status.now(server="away", trouble=to_fault(exc).brief)

    def first_boot(self) -> None:
        """What can be done without a server: the name, the keys, and the document of the config drive."""
        if self.drive is not None:
            if self.state.read("personalised.json") is None:
                for what in instance.personalise(self.drive, self.root):
                    self.say(f"set {what}")
                self.state.write("personalised.json", True)
            self.accept_drive_document(self.drive)
        candidate = self.documents.candidate()
        if candidate is not None:
            self.converge(candidate)

    def accept_drive_document(self, drive: Dict[str, bytes]) -> None:
        raw, signature = drive.get(DRIVE_DOCUMENT), drive.get(DRIVE_SIGNATURE)
        if raw is None or signature is None or self.documents.seen >= 0:
            return
        try:
            self.documents.accept(raw, signature.decode("ascii", "replace"))
        except DocumentRefused as exc:
            self.say(f"the config drive's document is refused: {exc}")

    def step(self) -> None:
        """Hello if need be, deliver what is owed, wait for a document, converge."""
        if self.talk.token is None:
            self.hello()
        self.deliver()
        known = self.documents.seen if self.documents.seen >= 0 else None
        try:
            answer = self.talk.metadata(known, self.patience())
        except DocumentTooLarge as exc:
            self.refuse(exc)
            return
        self.status.now(server="reached", trouble="")
        if answer is not None:
            self.received(answer.raw, answer.signature)
        self.retry_if_due()
        self.look_for_drift()

    def hello(self) -> None:
        roots = inventory.Roots()
        welcome = self.talk.hello(inventory.macs(roots), inventory.system_uuid(roots), __version__)
        self.state.keep_token(welcome.token, self.identity.nonce)
        self.say(f"hello: the server calls us {welcome.name}")

    def received(self, raw: bytes, signature: str) -> None:
        """A document came: believe it only when it is right, and say so when it is not."""
        try:
            verified = self.documents.accept(raw, signature)
        except DocumentRefused as exc:
            self.refuse(exc)
            return
        self.failures, self.refused = 0, ""
        self.converge(verified)
        self.deliver()

    def refuse(self, exc: BaremetalError) -> None:
        """Say once, here and to the server, why what it sent is not believed."""
        self.say(f"refused: {exc}")
        if exc.brief != self.refused:
            self.refused = exc.brief
            self.owe(_failed(self.documents.applied, exc))
            self.deliver()
        time.sleep(RECONNECT_LONGEST_S * jitter())  # the server will offer it again at once

    def converge(self, verified: Verified) -> None:
        """Apply, and keep the outcome for the server."""
        if self.held_back(verified):
            return
        self.status.now(phase="applying", generation=verified.generation)
        before = self.documents.last_good()
        report = self._converge(verified, before)
        self.status.applied(report)
        self.say(f"generation {verified.generation}: {report.outcome} in {report.seconds:.2f} s{_why(report)}")
        if report.outcome == FAILED:
            self.failures += 1
            wait = min(RETRY_FIRST_S * 2 ** (self.failures - 1), RETRY_LONGEST_S) * jitter()
            self.retry_at = time.monotonic() + wait
            self.status.now(phase="failed", applied=self.documents.applied)
        else:
            self.retry_at = None
            self.documents.applied_now(verified)
            self.status.now(phase="waiting", applied=verified.generation, drift=[])
        self.owe(report)

    def _converge(self, verified: Verified, before: Optional[Dict[str, Any]]) -> ConfigReport:
        document = verified.document
        if before is not None and empty(document.values, document.deployments) and not empty(**before):
            return _failed(
                verified.generation,
                EmptyMetadata(
                    f"generation {verified.generation} has no values at all; generation {self.documents.applied} stays",
                    fix="set at least one value: an empty document would blank every configuration file",
                ),
            )
        trouble = self.bring_network(document.values)
        if trouble is not None:
            return _failed(verified.generation, trouble)
        old = None if before is None else self.sources(before["values"], before["deployments"])
        new = self.sources(document.values, document.deployments)
        force = self.documents.applied < 0
        return self.converger.converge(verified.generation, new, before=old, force=force)

    def bring_network(self, values: Dict[str, Any]) -> Optional[BaremetalError]:
        """The host network of the metadata, else of the config drive; what went wrong, if anything did."""
        from baremetal.agents.resident import network

        data = values.get("network_data") or self.network_data()
        if not isinstance(data, dict) or not network.present(self.root):
            return None
        try:
            if network.Network(self.root, self.places.state, self.identity.urls).bring(data):
                self.say("the host network is new, and the server is in reach")
        except BaremetalError as exc:
            return exc
        return None

    def network_data(self) -> Optional[Dict[str, Any]]:
        """network_data.json of the config drive, kept for when the drive is gone."""
        return self._kept("network_data.json", NETWORK_FILE)

    def sources(self, values: Dict[str, Any], deployments: List[Any]) -> List[Source]:
        return sources_of(values, deployments, self.ec2())

    def ec2(self) -> Optional[Dict[str, Any]]:
        """The EC2 part of the config drive."""
        return self._kept("ec2.json", EC2_FILE)

    def _kept(self, name: str, drive_file: str) -> Optional[Dict[str, Any]]:
        """A JSON object of the config drive, kept in the state directory."""
        if self.drive is not None and drive_file in self.drive and self.state.read(name) is None:
            try:
                self.state.write(name, json.loads(self.drive[drive_file]))
            except ValueError:
                self.say(f"the config drive's {drive_file} is not JSON")
        found = self.state.read(name)
        return found if isinstance(found, dict) else None

    def held_back(self, verified: Verified) -> bool:
        """After `agent rollback` the same generation is not applied again."""
        hold = self.state.read("hold.json")
        if not isinstance(hold, dict):
            return False
        if hold.get("generation") == verified.generation:
            self.status.now(phase="held", generation=verified.generation)
            return True
        self.state.drop("hold.json")
        return False

    # --- reports ---

    def owe(self, report: ConfigReport) -> None:
        """Keep it on disk until the server has it; only the newest counts. A full disk is told from memory."""
        self.owed = report.to_json()
        with contextlib.suppress(OSError):
            self.state.write("report.json", self.owed)

    def deliver(self) -> None:
        owed = self.owed or self.state.read("report.json")
        if isinstance(owed, dict) and self.talk.token is not None:
            try:
                self.talk.report(ConfigReport.from_json(owed).to_bytes())
            except ServerSaid as exc:
                if exc.status not in (400, 413, 422):
                    raise
                self.say(f"the server does not want our report: {exc.brief}")  # never again the same
            self.owed = None
            self.state.drop("report.json")

    # --- time ---

    def patience(self) -> float:
        """How long to hold the request: not past the next thing we have to do."""
        due = [HOLD_S * jitter(), self.drift_at - time.monotonic()]
        if self.retry_at is not None:
            due.append(self.retry_at - time.monotonic())
        return max(1.0, min(due))

    def retry_if_due(self) -> None:
        if self.retry_at is None or time.monotonic() < self.retry_at:
            return
        candidate = self.documents.candidate()
        self.retry_at = None
        if candidate is not None:
            self.converge(candidate)

    def look_for_drift(self) -> None:
        """Now and then: has somebody changed our files? Reported once per finding."""
        if time.monotonic() < self.drift_at:
            return
        self.drift_at = time.monotonic() + DRIFT_S * jitter()
        found = self.converger.drift()
        self.status.now(drift=found)
        if found and found != self.reported_drift:
            files = [{"path": d["path"], "change": d["what"]} for d in found]
            self.say(f"{len(found)} file(s) of ours were changed by somebody else: {files[0]['path']} …")
            self.owe(ConfigReport(self.documents.applied, DRIFT, files=files, facts=facts()))
        elif self.reported_drift and not found:
            self.say("our files are as they should be again")
            self.owe(ConfigReport(self.documents.applied, UNCHANGED, facts=facts()))
        self.reported_drift = found

    def look_for_new_drive(self) -> None:
        """Our token is dead: perhaps there is a drive of a new deployment."""
        found = drives.find(self.candidates)
        if found is None:
            return
        identity: Identity = identify(self.state, found)
        if identity.nonce != self.identity.nonce:
            self.say("a new config drive: starting over")
            os.execv("/proc/self/exe", _command_line())  # noqa: S606  (ourselves again)


def _failed(generation: int, exc: BaremetalError) -> ConfigReport:
    return ConfigReport(max(generation, 0), FAILED, fault=to_fault(exc).to_json(), facts=facts())


def _why(report: ConfigReport) -> str:
    return f": {report.fault['brief']}" if report.fault else ""


def _command_line() -> List[str]:
    with open("/proc/self/cmdline", "rb") as f:
        return [os.fsdecode(part) for part in f.read().split(b"\0")[:-1]]
