"""What can go wrong on the node, each with its stable code, and how it becomes a Fault."""

from __future__ import annotations

import time
from typing import Any, Dict, Optional

from baremetal.errors import BaremetalError
from baremetal.model.fault import Fault


class NodeTrouble(BaremetalError):
    """A failure on this machine. `evidence`: small JSON facts, never secrets."""

    code = "agent-error"

    def __init__(self, brief: str, *, detail: str = "", fix: str = "", **evidence: Any) -> None:
        super().__init__(brief, detail=detail, fix=fix)
        self.evidence: Dict[str, Any] = evidence


class OrderRefused(NodeTrouble):
    """An order we do not understand, or will not carry out."""

    code = "order-refused"


class OrderAborted(NodeTrouble):
    """The server ended this boot while an order was running."""

    code = "order-aborted"


class NoDisk(NodeTrouble):
    """No disk at all, or none that fits."""

    code = "no-disk"


class DiskAmbiguous(NodeTrouble):
    """Several disks fit and nothing says which."""

    code = "disk-ambiguous"


class DiskTooSmall(NodeTrouble):
    code = "disk-too-small"


class DiskReadOnly(NodeTrouble):
    code = "disk-read-only"


class DiskIo(NodeTrouble):
    """The disk failed a read or write, or vanished."""

    code = "disk-io"


class DiskRefused(NodeTrouble):
    """A disk we never touch: removable, on a SAN, in use, or not the one meant."""

    code = "disk-refused"


class ForeignData(NodeTrouble):
    """A disk that was never ours holds data, and nobody agreed to lose it."""

    code = "foreign-data"


class RaidFailed(NodeTrouble):
    """A software array could not be made, started or taken apart."""

    code = "raid"


class StepFailed(NodeTrouble):
    """A program that an element brought for cleaning, deploying or servicing failed."""

    code = "step-failed"


class RescueFailed(NodeTrouble):
    """Nobody could be let in."""

    code = "rescue"


class BootEntryFailed(NodeTrouble):
    """The firmware did not take the boot entry."""

    code = "boot-entry"


class NoSuchErase(NodeTrouble):
    """The disk cannot be erased by the method ordered."""

    code = "erase-unsupported"


class WipeUnproved(NodeTrouble):
    """Erased, read again, and something is still there."""

    code = "wipe-unproved"


class ImageSignature(NodeTrouble):
    code = "image-signature"


class ImageManifest(NodeTrouble):
    code = "image-manifest"


class ImageChunkCorrupt(NodeTrouble):
    code = "image-chunk-corrupt"


class ImageTruncated(NodeTrouble):
    code = "image-truncated"


class DownloadFailed(NodeTrouble):
    code = "download-failed"


class ConfigDriveBad(NodeTrouble):
    code = "config-drive"


def to_fault(exc: BaseException, now: Optional[float] = None) -> Fault:
    """The Fault a report carries; whatever was raised, it is never blank."""
    since = time.time() if now is None else now
    if isinstance(exc, BaremetalError):
        evidence = dict(getattr(exc, "evidence", {}))
        return Fault(exc.code, exc.brief, exc.detail, exc.fix, since=since, evidence=evidence)
    if isinstance(exc, MemoryError):
        return Fault(
            "no-memory", "the ramdisk ran out of memory", _last_lines(exc), "give the node at least 768 MB", since
        )
    return Fault(
        "agent-error",
        f"the agent failed: {type(exc).__name__}: {str(exc)[:300]}",
        _last_lines(exc),
        "a defect of the agent: report it with this detail",
        since,
    )


def _last_lines(exc: BaseException) -> str:
    import traceback  # late: hello must not wait for it

    return "".join(traceback.format_exception(type(exc), exc, exc.__traceback__))[-2000:]
