"""How a vendor's Redfish departs from the schema: what Ironic's code has workarounds for."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class RedfishQuirks:
    """Each off by default.

    `etag_required`: PATCH without If-Match is refused. `enabled_required`: a boot
    change without BootSourceOverrideEnabled is refused (Supermicro).
    `full_boot_object`: one without target, enabled and mode is refused (AMI,
    ASRockRack). `post_s`: so many seconds after power-on boot changes are refused,
    UnableToModifyDuringSystemPOST (HPE). `no_continuous`: only one-shot overrides,
    as in newer schemas.
    """

    etag_required: bool = False
    enabled_required: bool = False
    full_boot_object: bool = False
    post_s: float = 0.0
    no_continuous: bool = False
