"""What each kind of order does, with the machine it is done to. Imports are late: hello must not wait for them."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, Callable, Dict, List

from baremetal.agents import inventory, lldp
from baremetal.agents.http import Client
from baremetal.agents.progress import Reporter
from baremetal.protocol import agent as words

if TYPE_CHECKING:
    from baremetal.agents.disks import Disk

Handler = Callable[[Dict[str, Any], Reporter], Dict[str, Any]]


class Duties:
    """The orders this ramdisk knows. `connect` makes clients for the servers of images."""

    def __init__(
        self,
        etc: str,
        roots: inventory.Roots,
        bootif: "str | None",
        connect: Callable[[str], Client],
        settle: Callable[[], None],
        say: Callable[[str], None],
    ) -> None:
        self.etc, self.roots, self.bootif = etc, roots, bootif
        self.connect, self._settle, self.say = connect, settle, say
        self.lldp = lldp.Listener([])
        self.handlers: Dict[str, Handler] = {
            words.INSPECT: self.inspect,
            words.CLEAN: self.clean,
            words.WRITE_IMAGE: self.write_image,
            words.RAID_CREATE: self.raid_create,
            words.RAID_DELETE: self.raid_delete,
            words.RUN_STEP: self.run_step,
            words.RESCUE: self.rescue,
        }

    def listen(self) -> None:
        """From now on, note what the switches say."""
        self.lldp = lldp.Listener(inventory.nics(self.roots))

    def disks(self, arrays: bool = False) -> "List[Disk]":
        """All disks, once the drivers are in and the buses have been scanned; on request the running arrays too."""
        from baremetal.agents.disks import find

        self._settle()
        return find(self.roots.sys, self.roots.dev, arrays=arrays)

    def inspect(self, args: Dict[str, Any], reporter: Reporter) -> Dict[str, Any]:
        from baremetal.agents import scripts

        self._settle()
        found = inventory.collect(self.roots, self.bootif)
        wait_s = args.get("lldp_s", 0)
        heard = self.lldp.heard(min(float(wait_s), 60.0) if isinstance(wait_s, (int, float)) else 0.0)
        for nic in found["interfaces"]:
            nic["lldp"] = [list(tlv) for tlv in heard.get(nic["name"], [])]
            nic["lldp_processed"] = lldp.readable(heard.get(nic["name"], []))
        found["steps"] = scripts.known()
        return {"inventory": found}

    def clean(self, args: Dict[str, Any], reporter: Reporter) -> Dict[str, Any]:
        from baremetal.agents import cleaner, raid

        self._settle()
        raid.stop(sys=self.roots.sys, dev=self.roots.dev)  # members of a running array cannot be erased
        return {**cleaner.clean(args, self.disks(), reporter.progress, self.roots.sys), **self._forget_boot_entry()}

    def _forget_boot_entry(self) -> Dict[str, Any]:
        """The disk our boot entry names is empty now."""
        from baremetal.agents import efiboot
        from baremetal.errors import BaremetalError

        folder = f"{self.roots.sys}/firmware/efi/efivars"
        if not os.path.isdir(folder):
            return {}
        try:
            return {"boot_entries_removed": efiboot.Variables(folder).drop(efiboot.LABEL)}
        except BaremetalError as exc:
            self.say(f"{exc.brief}; the disks are erased all the same")
            return {"boot_entries_removed": [], "boot_entries_trouble": exc.brief}

    def write_image(self, args: Dict[str, Any], reporter: Reporter) -> Dict[str, Any]:
        from baremetal.agents import installer

        if args.get("raid"):
            from baremetal.agents import raid

            self._settle()
            raid.assemble()
        with open(f"{self.etc}/image-signing.pub") as f:
            key = installer.parse_key(f.read())
        site = installer.Site(
            connect=self.connect,
            public_key=key,
            find_disks=lambda: self.disks(arrays=bool(args.get("raid"))),
            progress=reporter.progress,
            say=self.say,
            efivars=f"{self.roots.sys}/firmware/efi/efivars",
        )
        return installer.write_image(args, site)

    def raid_create(self, args: Dict[str, Any], reporter: Reporter) -> Dict[str, Any]:
        from baremetal.agents import raid

        return raid.create(args, self.disks(), reporter.progress, sys=self.roots.sys)

    def raid_delete(self, args: Dict[str, Any], reporter: Reporter) -> Dict[str, Any]:
        from baremetal.agents import raid

        self._settle()
        return raid.delete(sys=self.roots.sys, dev=self.roots.dev)

    def run_step(self, args: Dict[str, Any], reporter: Reporter) -> Dict[str, Any]:
        from baremetal.agents import scripts

        self._settle()
        return scripts.run(args, reporter.progress)

    def rescue(self, args: Dict[str, Any], reporter: Reporter) -> Dict[str, Any]:
        from baremetal.agents import rescue

        return rescue.rescue(args, self.say)
