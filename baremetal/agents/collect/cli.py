"""`baremetal agent collect`, in images also os-collect-config: poll, compare, run the command, commit.

Differs from the original where that was wrong: a source that is gone counts as
a change, a hangup signal always works, names of deployments cannot leave the
cache, a message taken from a queue is tried until the command succeeds.
"""

from __future__ import annotations

import hashlib
import importlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from typing import Any, Callable, Dict, List, NamedTuple, Optional, Sequence, Tuple

from baremetal.agents.collect import options
from baremetal.agents.collect.cache import Cache
from baremetal.agents.collect.errors import NotConfigured, Unavailable
from baremetal.agents.collect.options import Settings, say
from baremetal.agents.collect.split import Source
from baremetal.errors import BaremetalError, UsageError

DEFAULT_ORDER = ("heat_local", "ec2", "cfn", "heat", "request", "local", "zaqar")
MODULES = {name: name for name in DEFAULT_ORDER}
MODULES.update(heat_local="local", baremetal="local")


class Collection(NamedTuple):
    """One round: what each source gave, and which collectors gave nothing this time."""

    sources: List[Source]
    silent: List[str]


def main(argv: Optional[Sequence[str]] = None, prog: str = options.NAME) -> int:
    arguments = list(sys.argv[1:] if argv is None else argv)
    try:
        settings = options.load(arguments, prog)
        if settings["", "print_cachedir"]:
            print(settings["", "cachedir"])
            return 0
        _log_to(settings["", "log_file"])
        collectors = _collectors(settings)
        if settings["", "print"] or not settings["", "command"]:
            return _print(collect(settings, collectors))
        if settings["", "one_time"] or settings["", "force"]:
            return cycle(settings, collectors)
        return _loop(settings, collectors)
    except BaremetalError as exc:
        print(f"{prog}: {exc}", file=sys.stderr)
        return 1


def collect(settings: Settings, collectors: Sequence[str]) -> Collection:
    """Ask every source, in order."""
    found: List[Source] = []
    silent: List[str] = []
    for name in collectors:
        try:
            found += _function(name)(settings)
        except NotConfigured as exc:
            if settings["", "debug"]:
                say(f"{name}: {exc.brief}")
        except Unavailable as exc:
            say(f"{name} is unavailable: {exc}")
            silent.append(name)
    return Collection(_last_of_each(found), silent)


def cycle(settings: Settings, collectors: Sequence[str]) -> int:
    """One round: collect, store, run the command if something changed. Gives its exit status, 0 without a run."""
    cache = Cache(settings["", "cachedir"])
    collection = collect(settings, collectors)
    try:
        names, changed = _store(cache, collection, settings)
        if not changed and not settings["", "force"]:
            return 0
        paths = cache.list(names)
        if names:
            cache.back_up(settings["", "backup_cachedir"])
    except OSError as exc:
        say(f"cannot keep metadata in {cache.directory}: {exc}")
        return 1
    status = _command(settings["", "command"], paths)
    if status == 0:
        cache.commit([name for name in names if cache.pending(name)])
    return status


def _store(cache: Cache, collection: Collection, settings: Settings) -> Tuple[List[str], bool]:
    """Write what came; gives the names of this collection and whether anything changed."""
    changed = False
    names = []
    for name, content in collection.sources:
        changed = cache.store(name, content) or changed
        names.append(name)
    before = cache.listed()
    missing = [name for name in before if name not in names]
    kept = [name for name in missing if _still_owed(name, collection, cache, settings)]
    if not collection.silent and missing:
        changed = True  # a file or deployment is gone for good: its values must go too
    for name in kept:
        names.insert(min(before.index(name), len(names)), name)
    return names, changed or any(cache.pending(name) for name in kept)


def _still_owed(name: str, collection: Collection, cache: Cache, settings: Settings) -> bool:
    """An unavailable source's document that must not be lost: a message nobody can send again, or on request."""
    if not collection.silent or not os.path.exists(cache.path(name)):
        return False
    return bool(settings["", "keep_last_good"]) or ("zaqar" in collection.silent and cache.pending(name))


def _command(command: str, paths: List[str]) -> int:
    environment = dict(os.environ, OS_CONFIG_FILES=":".join(paths))
    done = subprocess.run(command, shell=True, env=environment, check=False)  # noqa: S602  (the administrator's words)
    status = done.returncode if done.returncode >= 0 else 128 - done.returncode
    if status:
        say(f"the command failed with status {status}")
    return status


def _loop(settings: Settings, collectors: List[str]) -> int:
    hangup = _Hangup()
    before = _digest(settings.files)
    if settings["", "splay"] > 0:
        hangup.sleep(random.uniform(0, settings["", "splay"]))
    pause = settings["", "min_polling_interval"]
    longest = settings["", "polling_interval"]
    while True:
        cycle(settings, collectors)
        if hangup.asked or _digest(settings.files) != before:
            _start_over()
        hangup.sleep(min(pause, longest))
        if hangup.asked:
            _start_over()
        pause = min(pause * 2, longest)


class _Hangup:
    """SIGHUP: start over with new configuration, at once when asleep, after the command when it runs."""

    def __init__(self) -> None:
        self.asked = False
        signal.signal(signal.SIGHUP, self._ask)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGHUP])

    def _ask(self, number: int, frame: Any) -> None:
        self.asked = True

    def sleep(self, seconds: float) -> None:
        until = time.monotonic() + seconds
        while not self.asked:
            left = until - time.monotonic()
            if left <= 0:
                return
            # sigtimedwait would race with the handler; short sleeps do not.
            time.sleep(min(left, 0.2) if left < 1 else min(left, 1.0))


def _start_over() -> None:
    """Become a fresh process with the same arguments; only the standard descriptors live on."""
    os.closerange(3, 256)
    arguments = [sys.executable, *_interpreter_arguments()]
    os.execv(sys.executable, arguments)  # noqa: S606  (ourselves again)


def _interpreter_arguments() -> List[str]:
    """How this interpreter was started, module or script (sys.orig_argv is Python 3.10)."""
    original = getattr(sys, "orig_argv", None)
    if original:
        return list(original[1:])
    with open("/proc/self/cmdline", "rb") as f:
        return [os.fsdecode(part) for part in f.read().split(b"\0")[1:-1]]


def _digest(files: Sequence[str]) -> str:
    total = hashlib.sha256()
    for path in files:
        try:
            with open(path, "rb") as f:
                total.update(f.read() + b"\0")
        except OSError:
            total.update(b"missing")
    return total.hexdigest()


def _collectors(settings: Settings) -> List[str]:
    names: List[str] = []
    for name in settings["", "collectors"] or DEFAULT_ORDER:
        names += [part.strip() for part in name.split(",") if part.strip()]
    unknown = [name for name in names if name not in MODULES]
    if unknown:
        raise UsageError(f"unknown collector {unknown[0]!r}", fix=f"known: {', '.join(MODULES)}")
    return names


def _function(name: str) -> Callable[[Settings], List[Source]]:
    """Collectors are imported when used: most nodes use one."""
    module = importlib.import_module(f"baremetal.agents.collect.{MODULES[name]}")
    function: Callable[[Settings], List[Source]] = getattr(module, name)
    return function


def _last_of_each(sources: List[Source]) -> List[Source]:
    """One entry a name: the place of the first, the content of the last."""
    found: Dict[str, Any] = {}
    for name, content in sources:
        found[name] = content
    return list(found.items())


def _print(collection: Collection) -> int:
    print(json.dumps(dict(collection.sources), indent=1))
    return 0


def _log_to(path: Optional[str]) -> None:
    if path:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        os.dup2(descriptor, 2)
        os.close(descriptor)
