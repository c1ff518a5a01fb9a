"""GET /metrics/sensors for Prometheus: what the watcher last read of each BMC. A scrape asks no BMC anything.

Apart from /metrics, because a rack of 500 has some 20,000 readings: scrape it as
often as `sensor_poll_s` reads them. Names follow ipmi_exporter, with our prefix.
"""

from __future__ import annotations

import time

from fastapi import APIRouter, Request, Response

from baremetal.api.metrics import TYPE, Sample, _one
from baremetal.api.native.common import conductor
from baremetal.bmc.base import Reading
from baremetal.store import nodes
from baremetal.workflows.bmchealth import notes_of

router = APIRouter(tags=["server"])

# unit -> (metric, help); a reading in another unit goes to bmc_sensor_value.
UNITS = {
    "°C": ("bmc_temperature_celsius", "Temperature."),
    "RPM": ("bmc_fan_speed_rpm", "Fan speed."),
    "V": ("bmc_voltage_volts", "Voltage."),
    "A": ("bmc_current_amperes", "Current."),
    "W": ("bmc_power_watts", "Power."),
}
STATE = {"ok": 0.0, "warning": 1.0, "critical": 2.0}
Found = tuple[str, Reading]


@router.get("/metrics/sensors", summary="Sensor readings for Prometheus")
async def sensor_metrics(request: Request) -> Response:
    """As last read; a BMC that was never read has none."""
    con = conductor(request)
    rack = await con.store.fetch(lambda c: nodes.page(c, limit=None))
    now = time.time()
    known = [(node, con.health.known[node.id]) for node in rack if node.id in con.health.known]
    readings: list[Found] = [(node.name, reading) for node, health in known for reading in health.readings]
    lines = [
        *_one("bmc_up", "gauge", "Did the BMC answer last time.", [({"node": n.name}, float(h.up)) for n, h in known]),
        *_one(
            "bmc_sensors_age_seconds",
            "gauge",
            "Since its sensors were read.",
            [({"node": n.name}, round(now - h.read_at, 1)) for n, h in known if h.read_at],
        ),
        *_one(
            "bmc_sensor_state",
            "gauge",
            "0 ok, 1 warning, 2 critical.",
            [(_labels(one), STATE[one[1].state]) for one in readings if one[1].state in STATE],
        ),
    ]
    for unit, (name, text) in UNITS.items():
        lines += _one(name, "gauge", text, _values(readings, unit))
    others = [(_labels(one) | {"unit": one[1].unit}, one[1].value) for one in readings if _other(one)]
    lines += _one("bmc_sensor_value", "gauge", "Readings in other units.", [(k, v) for k, v in others if v is not None])
    audits = [({"node": n.name, "worst": a["worst"]}, 1.0) for n in rack if (a := notes_of(n).get("audit"))]
    lines += _one("bmc_audit", "gauge", "The worst finding of the last audit.", audits)
    return Response("\n".join(lines) + "\n", media_type=TYPE)


def _labels(one: Found) -> dict[str, str]:
    return {"node": one[0], "sensor": one[1].name, "type": one[1].kind}


def _values(readings: list[Found], unit: str) -> list[Sample]:
    return [(_labels(one), one[1].value) for one in readings if one[1].unit == unit and one[1].value is not None]


def _other(one: Found) -> bool:
    return one[1].value is not None and one[1].unit not in UNITS
