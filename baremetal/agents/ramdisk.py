"""The deploy ramdisk's agent: says hello, asks for orders, carries them out, reports.

It only dials out. One order at a time; the same order again is answered with
the same report. Started by the ramdisk's init; see docs/explanation/deploy-ramdisk.md.
"""

from __future__ import annotations

import os
import sys
import time
from typing import TYPE_CHECKING, Any, Callable, Dict, List, Optional

from baremetal.agents import clock, inventory
from baremetal.agents.http import Client, ServerSaid, ServerUnreachable, Url, retrying
from baremetal.agents.servers import Servers
from baremetal.agents.trouble import OrderRefused, to_fault
from baremetal.errors import BaremetalError
from baremetal.protocol import agent as words
from baremetal.protocol.doc import BadDocument

if TYPE_CHECKING:
    from baremetal.agents.duties import Duties

ETC = "/etc/baremetal"
DEAD_TOKEN_S = 60.0  # a boot plane that just restarted may not know us yet
LEAVE_S = 10.0  # time for a person at the console to read why we leave


class Leave(Exception):
    """End of the agent: `how` is reboot or poweroff."""

    def __init__(self, how: str) -> None:
        super().__init__(how)
        self.how = how


def say(text: str) -> None:
    """One line on the console, with the seconds since the kernel started."""
    try:
        with open("/proc/uptime") as f:
            up = f.read().split()[0]
    except OSError:
        up = "?"
    print(f"baremetal [{up:>7}] {text}", flush=True)


class Agent:
    """One boot of one machine."""

    def __init__(self, cmdline: Dict[str, str], etc: str = ETC, roots: Optional[inventory.Roots] = None) -> None:
        self.cmdline = cmdline
        self.etc = etc
        self.roots = roots or inventory.Roots()
        named = f"{_needed(cmdline, 'baremetal.url')},{cmdline.get('baremetal.also', '')}"
        urls = list(dict.fromkeys(u for u in named.split(",") if u))
        self.servers = Servers(urls, self.connect, say)
        self.poll_s = 30
        self.boot_id = ""
        self.run_dir = "/run"
        self.settled = False
        self.last: Optional[words.Report] = None
        self._duties: "Optional[Duties]" = None

    @property
    def duties(self) -> "Duties":
        """What the orders do; loaded after hello."""
        if self._duties is None:
            from baremetal.agents.duties import Duties

            self._duties = Duties(self.etc, self.roots, bootif(self.cmdline), self.connect, self.settle, say)
        return self._duties

    def run(self) -> None:
        """Until the server orders reboot or power-off (Leave)."""
        self.hello()
        self.duties.listen()
        while True:
            order = self.next_order()
            if order is not None:
                self.obey(order)

    def connect(self, url: str) -> Client:
        """A client for `url`; the token goes only to our own servers, and only over TLS."""
        target = Url.parse(url)
        base = f"{'https' if target.secure else 'http'}://{target.netloc}"
        client = Client(base, ca_file=f"{self.etc}/ca.pem" if target.secure else None, check_time=False)
        if hasattr(self, "servers") and self.servers.ours(client.base):
            client.token = self.servers.token
        return client

    def settle(self) -> None:
        """Once a boot: until the drivers are in and the buses have been scanned."""
        if not self.settled:
            from baremetal.agents import disks

            settle(lambda: [d.name for d in disks.find(self.roots.sys, self.roots.dev)], self.run_dir)
            self.settled = True

    # --- the conversation ---

    def hello(self) -> None:
        """Trade the nonce of our boot script for the token of this boot."""
        first_word = words.Hello(
            nonce=_needed(self.cmdline, "baremetal.nonce"),
            macs=inventory.macs(self.roots),
            uuid=inventory.system_uuid(self.roots),
            firmware=inventory.firmware_mode(self.roots),
        )
        say(f"hello to {', '.join(self.servers.urls)}")
        try:
            answer = retrying(
                lambda: self.servers.request("POST", f"{words.AGENT_ROOT}/hello", body=first_word.to_bytes()).expect(
                    200
                ),
                longest_s=5.0,
                on_wait=lambda exc, wait: say(f"{_brief(exc)}; again in {wait:.1f} s"),
            )
        except ServerSaid as exc:
            say(f"hello refused: {exc}")
            raise Leave("poweroff") from exc
        welcome = words.HelloAnswer.from_bytes(answer.body)
        self.servers.token = welcome.token
        self.boot_id = welcome.boot_id
        self.poll_s = max(1, min(int(welcome.poll_s), 300))
        if clock.follow(answer.headers.get("date", "")):
            say(f"clock set to {answer.headers['date']}")
        say(f"this is {welcome.name}")

    def next_order(self) -> Optional[words.Order]:
        """The next order, None when there is none yet."""
        after = f"&after={self.last.order_id}" if self.last else ""
        path = f"{words.AGENT_ROOT}/order?wait={self.poll_s}{after}"
        answer = self.steady(lambda: self.servers.request("GET", path, timeout_s=self.poll_s + 15).expect(200, 204))
        if answer is None or answer.status == 204:
            return None
        try:
            return words.Order.from_bytes(answer.body)
        except BadDocument as exc:
            say(f"not an order: {exc}")
            time.sleep(1)
            return None

    def report(self, report: words.Report) -> None:
        """Until the server has it; one it will not have is printed and left."""
        path = f"{words.AGENT_ROOT}/report"
        self.steady(lambda: self.servers.request("POST", path, body=report.to_bytes()).expect(200))

    def steady(self, call: Callable[[], Any]) -> Any:
        """call() through outages of any length; a token dead for DEAD_TOKEN_S ends the boot."""
        dead_since: Optional[float] = None
        while True:
            try:
                return retrying(call, on_wait=lambda exc, wait: say(f"{_brief(exc)}; again in {wait:.1f} s"))
            except ServerSaid as exc:
                if exc.status != 401:
                    say(f"the server refused: {exc}")
                    time.sleep(1)
                    return None
                dead_since = dead_since or time.monotonic()
                if time.monotonic() - dead_since > DEAD_TOKEN_S:
                    say("the server ended this boot (token dead)")
                    raise Leave("poweroff") from exc
                time.sleep(2)

    # --- orders ---

    def obey(self, order: words.Order) -> None:
        """Carry out one order and report, whatever happens."""
        if order.kind == words.HOLD:
            self.last = words.Report(order.id, words.DONE)
            return
        if self.last is not None and self.last.order_id == order.id:
            self.report(self.last)
            return
        if order.kind in (words.REBOOT, words.POWER_OFF):
            say(f"order: {order.kind}")
            self.report(words.Report(order.id, words.DONE))
            raise Leave("reboot" if order.kind == words.REBOOT else "poweroff")
        self.last = self.execute(order)
        self.report(self.last)

    def execute(self, order: words.Order) -> words.Report:
        from baremetal.agents import orders
        from baremetal.agents.progress import Reporter

        say(f"order: {order.kind}")
        started = time.monotonic()
        with Reporter(self.servers, order.id, say) as reporter:
            try:
                handler = self.duties.handlers.get(order.kind)
                if handler is None:
                    known = ", ".join(sorted(self.duties.handlers))
                    raise OrderRefused(f"unknown order {order.kind!r}", fix=f"this ramdisk knows: {known}")
                orders.check(order, self.boot_id, f"{self.etc}/order-signing.pub")
                data = handler(order.args, reporter)
            except Leave:
                raise
            except Exception as exc:
                fault = to_fault(exc)
                say(f"{order.kind} FAILED: {fault.code}: {fault.brief}")
                for line in (fault.detail + "\n" + fault.fix).strip().splitlines():
                    say("  " + line)
                return words.Report(order.id, words.FAILED, fault=fault.to_json())
        say(f"{order.kind} done in {time.monotonic() - started:.1f} s")
        return words.Report(order.id, words.DONE, data=data)


def settle(names: Callable[[], List[str]], run_dir: str, longest_s: float = 20.0) -> None:
    """Wait for init's driver loading, then until two looks 0.2 s apart see the same disks, and some.

    A machine with no disk at all is looked at for 5 s: a controller may spin its drives up.
    """
    began = time.monotonic()
    init_runs = os.path.exists(f"{run_dir}/drivers-loading")
    while init_runs and not os.path.exists(f"{run_dir}/drivers-loaded") and time.monotonic() - began < longest_s:
        time.sleep(0.05)
    seen = names()
    while init_runs and time.monotonic() - began < longest_s:
        time.sleep(0.2)
        now = names()
        if now == seen and (now or time.monotonic() - began > 5):
            return
        seen = now


def bootif(cmdline: Dict[str, str]) -> Optional[str]:
    """MAC of the NIC we were booted from, from BOOTIF=01-aa-bb-… (pxelinux's form)."""
    text = cmdline.get("BOOTIF", "").lower().replace("-", ":")
    return text[3:] if len(text) == 20 else text if len(text) == 17 else None


def parse_cmdline(text: str) -> Dict[str, str]:
    """Kernel arguments; a repeated one counts as last given, except that a nonce is never overridden."""
    found: Dict[str, str] = {}
    for word in text.split():
        key, _, value = word.partition("=")
        if key == "baremetal.nonce" and key in found:
            continue
        found[key] = value
    return found


def main(argv: List[str]) -> int:
    """Entry of `baremetal agent ramdisk`: runs until told to leave, then reboots or powers off."""
    with open("/proc/cmdline") as f:
        cmdline = parse_cmdline(f.read())
    try:
        Agent(cmdline).run()
    except Leave as leave:
        return leave_machine(leave.how, dry="--dry" in argv)
    except BaremetalError as exc:
        say(str(exc))
        time.sleep(LEAVE_S)
    return 1


def leave_machine(how: str, dry: bool = False) -> int:
    """Flush, then reboot or power off at once; there is no service to stop."""
    say(how)
    os.sync()
    if not dry:
        import subprocess

        subprocess.run(["/bin/busybox", how, "-f"], check=False)
        time.sleep(LEAVE_S)
    return 0


def _needed(cmdline: Dict[str, str], key: str) -> str:
    if not cmdline.get(key):
        raise OrderRefused(
            f"no {key} on the kernel command line",
            fix="this ramdisk is started by the server's boot script, not by hand",
        )
    return cmdline[key]


def _brief(exc: Exception) -> str:
    detail = exc.detail if isinstance(exc, ServerUnreachable) else ""
    return f"{getattr(exc, 'brief', exc)}{': ' + detail if detail else ''}"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
