"""pyghmi's defects, shown in its own untouched module: when one of these fails, upstream has healed it.

Then take the repair out of bmc/pyghmifix.py. Each runs in a process of its own,
because repairs and pyghmi's tables are global.
"""

import subprocess
import sys

LOST_WAKEUP = """
import collections, sys, threading, time
from pyghmi.ipmi.private import session as s
if sys.argv[1] == "repaired":
    from baremetal.bmc import pyghmifix
    pyghmifix.repair()
class Waiting: pktqueue = collections.deque([b"an answer that came before we wait"])
s.Session._assignsocket()
address = ("127.0.0.1", 9)
s.Session.bmc_handlers[address] = {1: Waiting()}
began = time.monotonic()
wait_s = float(sys.argv[2])
s._io_wait(wait_s, address)
print("slept" if time.monotonic() - began > 0.9 * wait_s else "woke")
"""


SILENT_BMC = """
import socket, time
from baremetal.bmc import pyghmifix
from pyghmi.exceptions import IpmiException
pyghmifix.repair()
deaf = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
deaf.bind(("127.0.0.1", 0))
began, busy = time.monotonic(), time.process_time()
try:
    pyghmifix.BoundedSession("127.0.0.1", b"a", b"b", port=deaf.getsockname()[1])
except IpmiException:
    print("sleeps" if time.process_time() - busy < 0.5 * (time.monotonic() - began) else "spins")
"""


def python(code, *arguments):
    done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, timeout=180)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_two_locks_in_opposite_order():
    code = "from pyghmi.ipmi.private import session as s; print(s.KEEPALIVE_SESSIONS is s.WAITING_SESSIONS)"
    assert python(code) == "False"


def test_the_repair_makes_them_one():
    code = (
        "from baremetal.bmc import pyghmifix; pyghmifix.repair(); pyghmifix.repair()\n"
        "from pyghmi.ipmi.private import session as s; print(s.KEEPALIVE_SESSIONS is s.WAITING_SESSIONS)"
    )
    assert python(code) == "True"


def test_a_reply_before_its_waiter_is_missed():
    assert python(LOST_WAKEUP, "untouched", "0.6") == "slept"


def test_every_login_begins_with_the_same_console_id():
    code = (
        "from pyghmi.ipmi.private.session import Session as S\n"
        "made = object.__new__(S); made.logontries = 0; made.maxtimeout = 2\n"
        "made._initsession(); first = made.localsid; made._initsession(); print(first == made.localsid)"
    )
    assert python(code) == "True"
    assert (
        python(
            code.replace("pyghmi.ipmi.private.session import Session", "baremetal.bmc.pyghmifix import BoundedSession")
        )
        == "False"
    )


def test_the_repair_sees_it():
    assert python(LOST_WAKEUP, "repaired", "60") == "woke"


def test_the_repaired_wait_sleeps_while_a_bmc_is_silent():
    assert python(SILENT_BMC) == "sleeps"


def test_the_parts_the_bounded_session_overrides_are_there():
    code = (
        "from pyghmi.ipmi.private.session import Session as S\n"
        "names = ('_mark_broken', '_timedout', '_relog', '_handle_ipmi_packet', '_initsession')\n"
        "print(all(hasattr(S, n) for n in names))"
    )
    assert python(code) == "True"


def test_a_login_wakes_for_every_bmcs_packets():
    code = (
        "import inspect\n"
        "from pyghmi.ipmi.private.session import Session as S\n"
        "print('Session.wait_for_rsp()' in inspect.getsource(S.__init__))"
    )
    assert python(code) == "True"


def test_the_repaired_login_handles_its_own():
    code = "from baremetal.bmc.pyghmifix import BoundedSession as B; print('__init__' in vars(B))"
    assert python(code) == "True"


def test_an_untested_pyghmi_is_refused():
    code = (
        "from baremetal.bmc import pyghmifix\n"
        "try: pyghmifix.check_version('1.7.0')\n"
        "except Exception as exc: print(type(exc).__name__)"
    )
    assert python(code) == "BmcUnsupported"
