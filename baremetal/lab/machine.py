"""A machine behind a BMC: QEMU while it is on, nothing while it is off.

Power on starts a process and uses up the one-shot boot override; a guest's own
reboot ends the process and starts the next one, with the next boot order, as a
real machine's firmware would read it anew. Orders are carried out one by one.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import time
from collections.abc import Callable, Coroutine
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from baremetal.lab import kcs, qemu, tools
from baremetal.lab.accel import Accel
from baremetal.lab.console import Console
from baremetal.lab.disks import DiskShelf
from baremetal.lab.qmp import Qmp
from baremetal.lab.spec import MachineSpec
from baremetal.wire.ipmi.bmc import Bmc
from baremetal.wire.ipmi.bootopts import Override
from baremetal.wire.ipmi.codes import ChassisControl

log = logging.getLogger(__name__)

_QUIT_S = 5.0
LOW_MIB = 96  # too little for any of today's ramdisks


@dataclass
class _Instance:
    """One QEMU process, from spawn to end. `reason` is QMP's for the shutdown."""

    process: asyncio.subprocess.Process
    qmp: Qmp
    tasks: list[asyncio.Task[None]] = field(default_factory=list)
    reason: str = ""

    def heard(self, event: dict[str, Any]) -> None:
        if event.get("event") == "SHUTDOWN":
            self.reason = event.get("data", {}).get("reason", "")


class Machine:
    """A QEMU machine as a BMC's chassis. `bmc` is set by its owner before the first order."""

    bmc: Bmc

    def __init__(self, spec: MachineSpec, directory: Path, taps: tuple[str, ...], accel: Accel) -> None:
        self.spec = spec
        self.directory = directory
        self.disks = DiskShelf(spec, directory)
        self.console = Console(directory / "console.sock")
        self.taps = taps
        self.cd: Path | None = None
        self.cable = True
        self.delay_s = 0.0
        self.foreign = False  # from the next power-on another machine stands here: same MACs, other UUID and serials
        self.starved = False  # from the next power-on it has LOW_MIB of memory
        self.boots: list[tuple[float, Override]] = []
        self.trouble = ""
        self.on_change: Callable[[Machine], None] = lambda _: None
        self._accel = accel
        self._instance: _Instance | None = None
        self._kcs: asyncio.Server | None = None
        self._lock = asyncio.Lock()
        self._tasks: set[asyncio.Task[None]] = set()
        self._watches: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Machine:
        self.directory.mkdir(parents=True, exist_ok=True)
        for leftover in self.directory.glob("*.part"):
            leftover.unlink()
        await self.console.start()
        if self.spec.kcs:
            self._kcs = await kcs.serve(self.directory, lambda: self.bmc)
        return self

    async def __aexit__(self, *_: object) -> None:
        for task in (*self._tasks, *self._watches):
            task.cancel()
        if self._instance is not None:
            await self._stop(self._instance)
        await self.console.close()
        if self._kcs is not None:
            self._kcs.close()

    # The chassis interface

    def powered(self) -> bool:
        """Does a QEMU process run?"""
        return self._instance is not None

    def control(self, order: ChassisControl) -> None:
        """Queue an order."""
        self._background(self._carry_out(order))

    async def settled(self) -> None:
        """Wait until all orders so far are carried out."""
        while pending := [t for t in self._tasks if t is not asyncio.current_task()]:
            await asyncio.wait(pending)

    @property
    def pid(self) -> int | None:
        """QEMU's process id while it runs."""
        return self._instance.process.pid if self._instance else None

    async def plug(self, connected: bool) -> None:
        """Cable in or out, as the guest sees it; the tap is the network's."""
        self.cable = connected
        if self._instance is not None:
            for number in range(len(self.taps)):
                await self._instance.qmp.order("set_link", name=f"nic{number}", up=connected)

    # Orders

    def _background(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _carry_out(self, order: ChassisControl) -> None:
        async with self._lock:
            if self.delay_s:
                await asyncio.sleep(self.delay_s)
            instance = self._instance
            match order:
                case ChassisControl.ON if instance is None:
                    await self._start()
                case ChassisControl.OFF if instance is not None:
                    await self._stop(instance)
                case ChassisControl.CYCLE | ChassisControl.RESET if instance is not None:
                    await self._stop(instance)
                    await self._start()
                case ChassisControl.SOFT if instance is not None:
                    await instance.qmp.order("system_powerdown")
                case ChassisControl.DIAG if instance is not None:
                    await instance.qmp.order("inject-nmi")
                case _:
                    pass

    async def _start(self) -> None:
        boot = qemu.Boot(self.bmc.boot.consume(time.time()), self.cd)
        try:
            self._instance = await self._spawn(boot)
        except Exception as exc:  # the BMC must go on answering; the state shows what is wrong
            self.trouble = str(exc)
            log.exception("%s: QEMU does not start", self.spec.name)
            return
        self.trouble = ""
        self.boots.append((time.time(), boot.override))
        if not self.cable:
            await self.plug(False)
        self.on_change(self)

    def _inside(self) -> MachineSpec:
        """What is in the machine now."""
        spec = self.spec
        if self.foreign:
            spec = replace(spec, name=f"{spec.name}-other")
        return replace(spec, memory_mib=LOW_MIB) if self.starved else spec

    async def _spawn(self, boot: qemu.Boot) -> _Instance:
        self.disks.nvram()
        files = await self.disks.files()
        qmp_ours, qmp_theirs = socket.socketpair()
        line_ours, line_theirs = socket.socketpair()
        with qmp_theirs, line_theirs:
            fds = (qmp_theirs.fileno(), line_theirs.fileno())
            wiring = qemu.Wiring(self.directory, self.taps, files, tuple(self._accel.arguments), *fds)
            process = await self._execute(qemu.arguments(self._inside(), wiring, boot), fds)
        instance = _Instance(process, Qmp(qmp_ours, lambda event: instance.heard(event)))
        run = asyncio.get_running_loop().create_task
        instance.tasks = [
            run(instance.qmp.run()),
            run(self.console.attach(line_ours)),
        ]
        watch = run(self._watch(instance))
        self._watches.add(watch)
        watch.add_done_callback(self._watches.discard)
        return instance

    async def _execute(self, arguments: list[str], fds: tuple[int, ...]) -> asyncio.subprocess.Process:
        """QEMU, which the kernel kills when we die: else it would go on, holding the tap."""
        program = tools.find("qemu-system-x86_64") or "qemu-system-x86_64"
        setpriv = tools.find("setpriv") or "setpriv"
        with (self.directory / "qemu.log").open("ab") as output:
            return await asyncio.create_subprocess_exec(
                *(setpriv, "--pdeathsig", "KILL", "--", program, *arguments),
                cwd=self.directory,
                pass_fds=fds,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=output,
                stderr=output,
            )

    async def _stop(self, instance: _Instance) -> None:
        self._instance = None
        with suppress(TimeoutError):
            await instance.qmp.order("quit")
            async with asyncio.timeout(_QUIT_S):
                await instance.process.wait()
        if instance.process.returncode is None:
            instance.process.kill()
            await instance.process.wait()
        await asyncio.gather(*instance.tasks, return_exceptions=True)
        self.on_change(self)

    async def _watch(self, instance: _Instance) -> None:
        """Wait for the process's end; a guest's reboot starts the next one, anything else leaves it off."""
        await instance.process.wait()
        await asyncio.gather(*instance.tasks, return_exceptions=True)
        async with self._lock:
            if self._instance is not instance:
                return
            self._instance = None
            if instance.reason == "guest-reset":
                await self._start()
            else:
                self._note_end(instance)
                self.on_change(self)

    def _note_end(self, instance: _Instance) -> None:
        if instance.process.returncode and not instance.reason:
            output = (self.directory / "qemu.log").read_bytes()[-500:].decode(errors="replace")
            self.trouble = (
                f"QEMU ended with status {instance.process.returncode}: {os.linesep.join(output.splitlines()[-3:])}"
            )
            log.warning("%s: %s", self.spec.name, self.trouble)
