"""The words of IPMI's tables: sensor types, units, what an event offset means.

pyghmi carries these tables; they are the part of it that needs no network.
"""

from __future__ import annotations

from pyghmi import constants as health
from pyghmi.ipmi.private import constants as tables

# IPMI 2.0 table 43-15, sensor unit type codes that occur in servers; others are shown by number.
UNITS = {
    0: "",
    1: "°C",
    2: "°F",
    3: "K",
    4: "V",
    5: "A",
    6: "W",
    7: "J",
    8: "C",
    9: "VA",
    11: "lm",
    13: "cd",
    14: "kPa",
    15: "PSI",
    16: "N",
    17: "CFM",
    18: "RPM",
    19: "Hz",
    20: "µs",
    21: "ms",
    22: "s",
    23: "min",
    24: "h",
    25: "d",
    65: "bit",
    66: "kbit",
    67: "Mbit",
    68: "Gbit",
    69: "B",
    70: "kB",
    71: "MB",
    72: "GB",
    73: "word",
    81: "count",
}
_SEVERITY = {
    health.Health.Ok: "info",
    health.Health.Warning: "warning",
    health.Health.Critical: "critical",
    health.Health.Failed: "critical",
}


def unit(base: int, modifier: int, flags: int) -> str:
    """Unit text of SDR bytes units 1 (flags), 2 (base), 3 (modifier)."""
    text = UNITS.get(base, f"unit {base}")
    if flags & 1:
        text = "%" + text
    how = (flags >> 1) & 3
    if how == 1:
        text += "/" + UNITS.get(modifier, f"unit {modifier}")
    elif how == 2:
        text += "·" + UNITS.get(modifier, f"unit {modifier}")
    return text


def kind(sensor_type: int) -> str:
    """Sensor type in words (table 42-3)."""
    return str(tables.sensor_type_codes.get(sensor_type, f"type {sensor_type:02X}h"))


def offset(reading_type: int, sensor_type: int, number: int, asserted: bool = True) -> tuple[str, str]:
    """What an event offset means, and how bad it is: info, warning or critical."""
    if reading_type == 0x6F:
        entry = tables.sensor_type_offsets.get(sensor_type, {}).get(number)
    else:
        entry = tables.generic_type_offsets.get(reading_type, {}).get(number)
    if entry is None:
        return f"state {number}", "info"
    if asserted:
        return str(entry["desc"]), _SEVERITY.get(entry["severity"], "info")
    return str(entry.get("deassertion_desc", entry["desc"])), _SEVERITY.get(entry.get("deassertion_severity"), "info")
