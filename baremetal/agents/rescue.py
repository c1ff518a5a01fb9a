"""Lets a person in: a login on the consoles, and ssh where the operator approved it. Touches no disk.

The key or password is of this boot only: it lives in memory and ends with the
machine's next reset. ssh either dials out to the address the operator named
(his own client waits there), or listens on the port he approved; without
either no port is open.
"""

from __future__ import annotations

import os
import re
import socket
import subprocess
import threading
import time
from typing import Any, Callable, Dict, List, Optional, Tuple

from baremetal.agents.trouble import OrderRefused, RescueFailed

DROPBEAR, KEYMAKER = "/usr/sbin/dropbear", "/usr/bin/dropbearkey"
HOST_KEY = "/run/ssh_host_ed25519"
BUSYBOX = "/bin/busybox"
DIAL_AGAIN_S = 3.0
_CRYPT = re.compile(r"\$(6|5|y|2b)\$[./A-Za-z0-9$,=]{8,200}\Z")
_KEY_TYPES = ("ssh-ed25519", "ssh-rsa", "ecdsa-sha2-nistp256", "ecdsa-sha2-nistp384", "sk-ssh-ed25519@openssh.com")
Say = Callable[[str], None]


def rescue(args: Dict[str, Any], say: Say, root: str = "/") -> Dict[str, Any]:
    """Carry out a rescue order; everything is checked before anybody is let in."""
    password = args.get("password_hash")
    keys = args.get("authorized_keys") or []
    ssh = args.get("ssh") or {}
    if password is not None and not (isinstance(password, str) and _CRYPT.match(password)):
        raise OrderRefused("rescue: password_hash is no crypt(5) text")
    if not isinstance(keys, list) or not all(isinstance(k, str) and _is_key(k) for k in keys):
        raise OrderRefused("rescue: authorized_keys is a list of public keys")
    if not password and not keys:
        raise OrderRefused("rescue: neither a password nor a key", fix="give one: nobody could log in")
    door = _door(ssh)
    _let_in(root, password, keys)
    consoles = _logins(root, say) if password else []
    report: Dict[str, Any] = {"consoles": consoles, "ssh": ssh or None}
    if door:
        report["host_key"] = _host_key()
        _open_door(door, bool(password), say)
    return report


def _is_key(text: str) -> bool:
    """One public key, no options: an option could run a command or open a tunnel."""
    words = text.split(" ")
    return "\n" not in text and len(text) < 16384 and len(words) >= 2 and words[0] in _KEY_TYPES


def _door(ssh: Any) -> Optional[Tuple[str, str, int]]:
    """(listen|dial, host, port), None without ssh."""
    if not ssh:
        return None
    if isinstance(ssh, dict) and set(ssh) == {"listen"} and _is_port(ssh["listen"]):
        return "listen", "", int(ssh["listen"])
    if isinstance(ssh, dict) and set(ssh) == {"dial"} and isinstance(ssh["dial"], str):
        host, colon, port = ssh["dial"].rpartition(":")
        if host and colon and port.isdigit() and _is_port(int(port)):
            return "dial", host.strip("[]"), int(port)
    raise OrderRefused(f"rescue: ssh is {ssh!r}", fix='{"dial": "host:port"} or {"listen": port}')


def _is_port(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 < value < 65536


def _let_in(root: str, password: Optional[str], keys: List[str]) -> None:
    """root's password and keys. `*`: no password fits."""
    etc, ssh = os.path.join(root, "etc"), os.path.join(root, "root/.ssh")
    _write(f"{etc}/shadow", f"root:{password or '*'}:19000:0:99999:7:::\n", 0o600)
    _write(f"{etc}/shells", "/bin/sh\n", 0o644)
    if keys:
        os.makedirs(ssh, mode=0o700, exist_ok=True)
        _write(f"{ssh}/authorized_keys", "".join(f"{k}\n" for k in keys), 0o600)


def _logins(root: str, say: Say) -> List[str]:
    """A login on every console the kernel has, started again when somebody logs out."""
    names = _text(os.path.join(root, "sys/class/tty/console/active")).split() or ["console"]
    found = [n for n in names if os.path.exists(os.path.join(root, "dev", n))]
    if not found:
        raise RescueFailed("no console to log in on", detail=f"the kernel names {', '.join(names)}")
    for name in found:
        command = [BUSYBOX, "getty", "-L", "115200", name, "linux" if name.startswith("tty0") else "vt102"]
        threading.Thread(target=_again_and_again, args=(command,), daemon=True).start()
    say(f"rescue: log in as root on {', '.join(found)}")
    return found


def _again_and_again(command: List[str]) -> None:
    while True:
        began = time.monotonic()
        subprocess.run(command, check=False, start_new_session=True)
        time.sleep(1 if time.monotonic() - began > 2 else 10)


def _host_key() -> str:
    """A fresh host key; its fingerprint, for the operator to compare."""
    if not os.path.exists(DROPBEAR):
        raise RescueFailed("this ramdisk has no ssh server", fix="rescue on the serial console, or build it with ssh")
    if not os.path.exists(HOST_KEY):
        made = [KEYMAKER, "-t", "ed25519", "-f", HOST_KEY]
        subprocess.run(made, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    shown = subprocess.run([KEYMAKER, "-y", "-f", HOST_KEY], check=True, stdout=subprocess.PIPE).stdout.decode()
    return next((line.split(" ", 1)[1] for line in shown.splitlines() if line.startswith("Fingerprint:")), "")


def _open_door(door: Tuple[str, str, int], password: bool, say: Say) -> None:
    how, host, port = door
    # -s: no passwords; -j -k: no forwarding
    options = ["-r", HOST_KEY, "-j", "-k", *([] if password else ["-s"])]
    if how == "listen":
        subprocess.Popen([DROPBEAR, "-F", "-E", "-p", str(port), *options], start_new_session=True)
        say(f"rescue: ssh listens on port {port}, as the operator approved")
        return
    threading.Thread(target=_dial, args=(host, port, options, say), daemon=True).start()


def _dial(host: str, port: int, options: List[str], say: Say) -> None:
    """Connect out and serve ssh on that connection, one after another, until the machine is reset."""
    told = False
    while True:
        try:
            with socket.create_connection((host, port), timeout=10) as line:
                line.settimeout(None)
                say(f"rescue: ssh serves {host}:{port}, which we dialled")
                # Without -E, which dropbear refuses beside -i: standard error would go to the client.
                subprocess.run(
                    [DROPBEAR, "-i", *options],
                    stdin=line.fileno(),
                    stdout=line.fileno(),
                    stderr=subprocess.DEVNULL,
                    check=False,
                )
            told = False
        except OSError as exc:
            if not told:
                say(f"rescue: {host}:{port} does not answer yet ({exc.strerror or exc}); dialling on")
            told = True
        time.sleep(DIAL_AGAIN_S)


def _write(path: str, text: str, mode: int) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
    with os.fdopen(fd, "w") as f:
        f.write(text)
    os.chmod(path, mode)


def _text(path: str) -> str:
    try:
        with open(path) as f:
            return f.read().strip()
    except OSError:
        return ""
