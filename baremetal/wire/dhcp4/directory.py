"""The nodes as DHCP sees them: by MAC, by UUID, by the switch port they hang on. No I/O."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Iterator, Sequence

from baremetal.model.boot import BootRecord, Purpose
from baremetal.wire import pxe
from baremetal.wire.dhcp4.packet import sub_options
from baremetal.wire.dhcp4.templates import Scope

RESERVED = "reserved:"  # begins the id of a record that is no node's


class Known:
    """A node as seen through one of its NICs, or a reservation. `fixed` is its address as int, 0 when it has none.

    `node`: its id, None for a reservation.
    """

    __slots__ = ("fixed", "node", "record")

    def __init__(self, record: BootRecord, fixed: int) -> None:
        self.record = record
        self.fixed = fixed
        self.node = record.node_id if not record.node_id.startswith(RESERVED) else None


class Directory:
    """Who is known. Fixed addresses are kept out of the ranges of `scopes`."""

    def __init__(self, scopes: Sequence[Scope]) -> None:
        self.by_key: dict[bytes, Known] = {}
        self._scopes = scopes
        self._by_guid: dict[bytes, BootRecord] = {}
        self._by_circuit: dict[bytes, BootRecord] = {}
        self._keys_of: dict[str, list[bytes]] = {}
        self._reserved = [record for scope in scopes for record in reservations(scope)]
        self.update(())

    def update(self, records: Iterable[BootRecord]) -> None:
        """The nodes as they are now: replaces what was known."""
        for node_id in list(self._keys_of):
            self._forget(node_id)
        # A node that has a reservation too is a node.
        for record in (*self._reserved, *records):
            self._learn(record)

    def change(self, records: Iterable[BootRecord], gone: Iterable[str]) -> None:
        """Some nodes changed, some (by id) went away."""
        for node_id in gone:
            self._forget(node_id)
        for record in records:
            self._forget(record.node_id)
            self._learn(record)

    def recognise(self, key: bytes, options: dict[int, bytes]) -> Known | None:
        """A machine whose MAC is unknown: another NIC of a node (UUID), or the machine on a node's switch port.

        A second NIC does not get the node's fixed address: the first one may be
        using it. A port names the machine itself, so it does.
        """
        if not self._by_guid and not self._by_circuit:
            return None
        record = self._by_guid.get(options.get(97, b""))
        if record is not None:
            known = Known(record, 0)
            if known.node is None:
                known.fixed = _address(record)
                self._fix(known.fixed, frozenset((key,)))
            return self._keep(key, known)
        if 82 in options and self._by_circuit:
            record = self._by_circuit.get(sub_options(options[82]).get(1, b""))
            if record is not None:
                known = Known(record, _address(record))
                self._fix(known.fixed, frozenset((key,)))
                return self._keep(key, known)
        return None

    def _keep(self, key: bytes, known: Known) -> Known:
        self.by_key[key] = known
        self._keys_of[known.record.node_id].append(key)
        return known

    def _learn(self, record: BootRecord) -> None:
        fixed = _address(record)
        keys = [bytes.fromhex(mac.replace(":", "")) for mac in record.macs]
        self._keys_of[record.node_id] = keys
        for key in keys:
            before = self.by_key.get(key)
            if before is not None and before.node is None and not fixed:
                fixed = before.fixed  # reserved for it by the network
            self.by_key[key] = Known(record, fixed)
        self._fix(fixed, frozenset(keys))
        guid = pxe.uuid_bytes(record.uuid)
        if guid:
            self._by_guid[guid] = record
        circuit = record.extra.get("circuit")
        if isinstance(circuit, str) and circuit:
            self._by_circuit[circuit.encode()] = record

    def _forget(self, node_id: str) -> None:
        for key in self._keys_of.pop(node_id, ()):
            known = self.by_key.pop(key, None)
            if known is None:
                continue
            for scope in self._scopes:
                scope.leases.unfix(known.fixed)
            guid = pxe.uuid_bytes(known.record.uuid)
            if guid and self._by_guid.get(guid) is known.record:
                del self._by_guid[guid]
        for circuit in [c for c, r in self._by_circuit.items() if r.node_id == node_id]:
            del self._by_circuit[circuit]

    def _fix(self, address: int, owners: frozenset[bytes]) -> None:
        for scope in self._scopes:
            if address and scope.contains(address):
                scope.leases.fix(address, owners)


def _address(record: BootRecord) -> int:
    return int(ipaddress.IPv4Address(record.address)) if record.address else 0


def reservations(scope: Scope) -> Iterator[BootRecord]:
    """The network's own reservations, as records of machines that are no nodes and boot nothing."""
    for key, address in scope.network.reservations.items():
        kind, _, rest = key.partition(":")
        yield BootRecord(
            node_id=f"{RESERVED}{scope.network.name}:{key}",
            name=key,
            macs=() if kind in ("uuid", "circuit") else (key,),
            uuid=rest if kind == "uuid" else None,
            purpose=Purpose.NONE,
            because=f"network {scope.network.name} reserves {address} for it; it is no node",
            address=address,
            extra={"circuit": rest} if kind == "circuit" else {},
        )
