"""GET /metrics for Prometheus: nodes, faults, engine, planes, database (text format 0.0.4)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping

from fastapi import APIRouter, Request, Response
from sqlalchemy.engine import Connection

from baremetal import lifecycle
from baremetal.api.native.common import conductor
from baremetal.api.tally import Histogram, Labels, Tally
from baremetal.model.node import Node
from baremetal.store import events, nodes, wire_seen
from baremetal.version import __version__

router = APIRouter(tags=["server"])
BATCH = 500
TYPE = "text/plain; version=0.0.4; charset=utf-8"


@router.get("/metrics", summary="For Prometheus")
async def metrics(request: Request) -> Response:
    """Gauges and counters; names start with baremetal_."""
    con = conductor(request)
    tally: Tally = request.app.state.tally

    def read(conn: Connection) -> tuple[list[Node], int, int]:
        catch_up(conn, tally)
        return nodes.page(conn, limit=None), events.last_seq(conn), len(wire_seen.all_strangers(conn))

    rack, last_event, strangers = await con.store.fetch(read)
    stats = con.engine.stats()
    late = sorted(stats.late_s)
    path = con.store.path
    boot = con.planes.get("boot") or {}
    lines = [
        *_one("build_info", "gauge", "Version of the server.", [({"version": __version__}, 1)]),
        *_one(
            "nodes",
            "gauge",
            "Nodes by state, as Ironic names it.",
            _count("state", map(lifecycle.provision_state, rack)),
        ),
        *_one(
            "node_faults",
            "gauge",
            "Nodes with a fault, by its code.",
            _count("code", (n.fault.code for n in rack if n.fault)),
        ),
        *_one("nodes_by_power", "gauge", "Nodes by power as last seen.", _count("power", (str(n.power) for n in rack))),
        *_one("nodes_maintenance", "gauge", "Nodes in maintenance.", [({}, sum(bool(n.maintenance) for n in rack))]),
        *_one(
            "oldest_wait_seconds", "gauge", "The longest wait of a node now.", [({}, _oldest(rack, con.clock.now()))]
        ),
        *_one("events_total", "counter", "Events stored.", [({}, last_event)]),
        *_one("engine_queued", "gauge", "Nodes that are due or have a time to be.", [({}, stats.queued)]),
        *_one("engine_running", "gauge", "Passes under way.", [({}, stats.running)]),
        *_one("engine_passes_total", "counter", "Passes done.", [({}, stats.passes)]),
        *_one("engine_crashes_total", "counter", "Passes that raised (bugs).", [({}, stats.crashes)]),
        *_one("engine_late_seconds", "gauge", "Due to begun, of the newest passes.", _quantiles(late)),
        *_one("boot_planes", "gauge", "Boot planes connected.", [({}, int(boot.get("connected", 0)))]),
        *_one(
            "database_bytes",
            "gauge",
            "Size of the database.",
            [({}, path.stat().st_size if path and path.exists() else 0)],
        ),
        *_one("strangers", "gauge", "Machines seen that are no node's.", [({}, float(strangers))]),
        *_counted("events_by_kind_total", "Events by kind and outcome.", tally.events),
        *_counted("boot_requests_total", "Answers of DHCP, TFTP and HTTP at boot, by stage and reason.", tally.boots),
        *_counted("faults_total", "Faults that nodes came into, by code.", tally.faults),
        *_counted("webhook_deliveries_total", "Webhook deliveries by outcome.", tally.webhooks),
        *_histogram("state_seconds", "How long nodes were in a state before the next.", tally.stages),
        *_histogram("bmc_call_seconds", "Talks with BMCs by operation and outcome.", tally.calls),
        *_one("start_time_seconds", "gauge", "When the server started.", [({}, con.started_at)]),
    ]
    return Response("\n".join(lines) + "\n", media_type=TYPE)


def catch_up(conn: Connection, tally: Tally) -> None:
    """Count the events stored since the last look; the first look counts from now."""
    with tally.lock:
        if tally.seq is None:
            tally.seq = events.last_seq(conn)
        while found := events.after(conn, tally.seq, limit=BATCH):
            for seq, event in found:
                tally.event(event)
                tally.seq = seq


def _counted(name: str, text: str, counter: Mapping[Labels, float]) -> list[str]:
    return _one(name, "counter", text, [(dict(labels), float(n)) for labels, n in sorted(counter.items())])


def _histogram(name: str, text: str, found: Mapping[Labels, Histogram]) -> list[str]:
    lines = [f"# HELP baremetal_{name} {text}", f"# TYPE baremetal_{name} histogram"]
    for labels, histogram in sorted(found.items()):
        doc, sum_ = dict(labels), 0
        for bound, count in zip(histogram.bounds, histogram.counts, strict=True):
            sum_ += count
            lines.append(f"baremetal_{name}_bucket{_labels({**doc, 'le': f'{bound:g}'})} {sum_}")
        lines.append(f"baremetal_{name}_bucket{_labels({**doc, 'le': '+Inf'})} {histogram.number}")
        lines.append(f"baremetal_{name}_sum{_labels(doc)} {histogram.total:g}")
        lines.append(f"baremetal_{name}_count{_labels(doc)} {histogram.number}")
    return lines


Sample = tuple[dict[str, str], float]


def _one(name: str, kind: str, text: str, samples: Iterable[Sample]) -> list[str]:
    head = [f"# HELP baremetal_{name} {text}", f"# TYPE baremetal_{name} {kind}"]
    return head + [f"baremetal_{name}{_labels(labels)} {value:g}" for labels, value in samples]


def _labels(labels: dict[str, str]) -> str:
    if not labels:
        return ""
    escaped = {k: v.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n") for k, v in labels.items()}
    return "{" + ",".join(f'{k}="{v}"' for k, v in escaped.items()) + "}"


def _count(label: str, values: Iterable[str]) -> list[Sample]:
    return [({label: value}, float(count)) for value, count in sorted(Counter(values).items())]


def _quantiles(late: list[float]) -> list[Sample]:
    if not late:
        return []
    return [({"quantile": str(q)}, round(late[min(len(late) - 1, int(len(late) * q))], 4)) for q in (0.5, 0.95, 0.99)]


def _oldest(rack: list[Node], now: float) -> float:
    return round(max((now - n.wait.since for n in rack if n.wait), default=0.0), 1)
