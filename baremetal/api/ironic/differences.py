"""Where we answer otherwise than Ironic 39.

hack/ironic-dialogue sends both the same requests and compares field by field;
what differs must be in one of these tables. docs/reference/ironic-differences.md
is made of the first.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Difference:
    """`request` and `answer` are regular expressions over the request line and over one differing place."""

    request: str
    answer: str
    ironic: str
    here: str
    why: str


# Deliberate ones, with the reason.
DIFFERENCES: tuple[Difference, ...] = (
    Difference(
        r"^GET /(v1)? ",
        r"description|\.version: '1\.1|links\[1\]",
        "microversions to 1.115, a link to its web pages",
        "microversions to 1.110, a link to /api/openapi.json",
        "1.111 to 1.115 (descriptions of templates, owners of rules …) have no counterpart; clients negotiate",
    ),
    Difference(
        r"^GET /v1/(nodes|ports)[/?].*limit=",
        r"\.next: missing here",
        "a `next` link whenever a page is full",
        "a `next` link only when there is more",
        "spares every client one empty request",
    ),
    Difference(
        r"^PATCH /v1/nodes/",
        r"\.reservation: ",
        "the answer to a PATCH shows the lock that the PATCH itself held",
        "`reservation` is set only while a pass works on the node",
        "there are no locks: a change waits for nobody",
    ),
    Difference(
        r"PATCH .*/maintenance",
        r"\.maintenance_reason: None",
        "maintenance set by PATCH has no reason",
        "the reason is 'set over the API'",
        "maintenance without a reason is not kept here",
    ),
    Difference(
        r"states/provision .*deleted",
        r"status: 409 -> 400",
        "409 while the node is still locked by the verb before",
        "400: the verb before is over",
        "passes are short",
    ),
    Difference(
        r"/validate ",
        r"\.deploy\.",
        "the fake deploy interface validates anything",
        "deploy is not valid before an image is named",
        "what would be refused is not called valid",
    ),
    Difference(
        r"/history ",
        r"\.history: ",
        "failures only",
        "every verb, state and fault, with who asked",
        "`who did that?` has an answer",
    ),
    Difference(
        r"management/boot_device",
        r"\.(boot_device|persistent|supported_boot_devices): ",
        "the fake driver always says pxe",
        "what the BMC says, and all devices that a BMC can be told",
        "asked of the (simulated) BMC",
    ),
    Difference(
        r"management/indicators",
        r"\.indicators: ",
        "the fake driver's two LEDs",
        "none: `baremetal node locate`",
        "LEDs are a verb of the BMC here",
    ),
    Difference(
        r"^GET /v1/drivers",
        r"\.drivers: |_interfaces: ",
        "drivers and interfaces that ironic.conf enables",
        "our four drivers, one interface of each kind",
        "there is nothing to enable",
    ),
    Difference(
        r"traits .*1\.36",
        r"status: 406 -> 404",
        "406 for traits before 1.37, 404 for other things that came later",
        "404 for everything that came later",
        "one rule",
    ),
    Difference(
        r"allocations",
        r"\.(last_error|state|updated_at): ",
        "allocations are made in the background; one that found nothing says 'no available nodes match'",
        "made at once; each node is named with the rule that excluded it",
        "so that it can be mended",
    ),
    Difference(
        r"a verb while a node works",
        r"never compared",
        "running work is failed when its conductor dies; `abort` only in waits",
        "goes on after a restart; `abort` while working, too",
        "passes hold nothing in memory",
    ),
    Difference(
        r"active",
        r"never compared",
        "`active` when the disk is written and booted",
        "when the deployed system reported that it is configured, if the image has our agent",
        "up is not configured",
    ),
    Difference(
        r"manage on manageable",
        r"never compared",
        "`manage` on a manageable node is refused",
        "asks the BMC again who it is",
        "after a BMC was replaced",
    ),
    Difference(
        r"port uuid",
        r"never compared",
        "a port's UUID is random, and stays when its address is changed",
        "it is made of the MAC, and changes with it; a UUID given by the client is not taken",
        "a MAC is the name of a NIC; a second one could only disagree",
    ),
    Difference(
        r"configdrive",
        r"never compared",
        "configdrive may be a URL or a ready-made image",
        "a JSON object, from which the server builds the ISO",
        "no fetching of what a client names, no unpacking of foreign images",
    ),
    Difference(
        r"portgroups, chassis, volume, inspection rules",
        r"never compared",
        "can be made",
        "empty lists; making one is refused with 400",
        "nothing here would use them",
    ),
    Difference(
        r"heartbeat",
        r"never compared",
        "every heartbeat is written",
        "only one that says something new; callback_url must be https",
        "a thousand agents that say nothing new cost no writes",
    ),
)
# What differs between two runs of Ironic itself, too.
SETTLED: tuple[Difference, ...] = ()
