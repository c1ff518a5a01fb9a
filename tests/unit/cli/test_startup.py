"""Starting costs little: `--help` imports no noun and nothing heavy, `agent` not even Typer; errors are words."""

import os
import resource
import subprocess
import sys

import pytest

HEAVY = {
    "rich", "httpx", "sqlalchemy", "aiohttp", "fastapi", "uvicorn", "pydantic", "cryptography", "scapy", "pyghmi",
    "yaml", "asyncio", "ssl", "jinja2", "tftpy", "http.client", "multiprocessing", "prometheus_client",
}  # fmt: skip
PROBE = """
import sys
sys.argv = ["baremetal", *{arguments!r}]
from baremetal.cli import main
try:
    main()
except SystemExit as exc:
    print("exit", exc.code, file=sys.stderr)
print("modules", *sorted(sys.modules), file=sys.stderr)
"""


def start(*arguments, env=None):
    code = PROBE.format(arguments=list(arguments))
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env={**os.environ, **(env or {})}, timeout=60
    )
    lines = done.stderr.splitlines()
    modules = set(next((x for x in lines if x.startswith("modules")), "").split()[1:])
    code = next((x.split()[1] for x in lines if x.startswith("exit")), None)
    return done, code, modules


@pytest.mark.parametrize("arguments", [("--help",), ("--version",), ()])
def test_help_imports_nothing_heavy(arguments):
    done, _, modules = start(*arguments)
    assert modules & HEAVY == set()
    assert not any(
        m.startswith("baremetal.cli.") and m.split(".")[2] not in ("app", "failure", "helppage", "quick")
        for m in modules
    )
    assert "Usage" in done.stdout + done.stderr or "baremetal 0" in done.stdout


@pytest.mark.parametrize("noun", ["node", "metadata", "network", "serve", "init", "doctor", "status", "events"])
def test_help_of_a_noun_imports_nothing_heavy(noun):
    _, code, modules = start(noun, "--help")
    assert code == "0"
    assert modules & (HEAVY - {"ssl", "http.client"}) == set()


def test_agent_is_dispatched_before_typer():
    _, _, modules = start("agent", "--help")
    assert "typer" not in modules
    assert modules & (HEAVY - {"yaml", "jinja2", "ssl"}) == set()


def test_help_stays_within_its_cpu_budget():
    """100 ms is the promise on an idle machine; here only a gross mistake fails (best of three)."""
    spent = []
    for _ in range(3):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run([sys.executable, "-m", "baremetal", "--help"], capture_output=True, check=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        spent.append(after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime)
    assert min(spent) < 0.4


FAILURES = [  # arguments, exit code, what stderr says
    (("nod",), 2, "did you mean 'node'"),
    (("node", "list", "--wherre", "x"), 2, "--where"),
    (("node", "list"), 6, "no server answers at /nowhere/api.sock"),
    (("--server", "ftp://x", "node", "list"), 2, "is no http(s) URL"),
    (("--config", "/nowhere.toml", "node", "list"), 2, "cannot read /nowhere.toml"),
    (("node", "deploy", "n1"), 2, "which image"),
    (("node", "deploy"), 2, "which image"),
    (("node", "inspect"), 2, "which nodes"),
    (("metadata", "set", "a=b"), 2, "name a node first"),
    (("metadata", "show"), 2, "which layer"),
    (("node", "maintenance", "n1"), 2, "wants a reason"),
    (("node", "import", "/nowhere.json"), 2, "/nowhere.json"),
    (("node", "set", "n1", "nmae=x"), 2, "did you mean 'name'"),
    (("node", "set", "n1"), 2, "nothing to change"),
    (("node", "list", "--state", "avialable"), 2, "did you mean 'available'"),
    (("node", "raid", "n1", "--level", "9"), 2, "one of 0, 1, 5, 6, 10"),
    (("node", "rescue", "n1", "--key", "/dev/null"), 2, "lets nobody in"),
    (("events", "--kind", "fualt"), 2, "did you mean 'fault'"),
    (("diagnose", "--interface", "nowhere0"), 2, "there is no interface nowhere0"),
    (("metadata", "show", "--role"), 2, "baremetal metadata show: option '--role'"),
    (("bmc", "info", "-H", "/nowhere.json"), 2, "there is no file /nowhere.json"),
    (("node", "power", "n1", "--where", "fault"), 2, "names and --where"),
    (("node", "provide", "n1", "n2", "--where", "fault"), 2, "names and --where"),
    (("agents",), 2, "did you mean 'agent'"),
]


@pytest.mark.parametrize(("arguments", "code", "says"), FAILURES)
def test_failures_are_words_with_an_exit_code(arguments, code, says):
    done, got, _ = start(*arguments, env={"BAREMETAL_RUN_DIR": "/nowhere"})
    assert (got, says in done.stderr) == (str(code), True), done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""


def test_a_right_that_is_missing_is_no_bug(capsys):
    from baremetal.cli import failure

    def locked():
        raise PermissionError(13, "Permission denied", "/var/lib/baremetal-lab")

    assert failure.guard(locked) == 8
    said = capsys.readouterr().err
    assert said.startswith("error: this user may not use /var/lib/baremetal-lab")
    assert "fix: use sudo" in said


def test_a_bug_is_one_line_and_a_log(tmp_path, monkeypatch, capsys):
    from baremetal.cli import failure

    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))

    def bug():
        raise ZeroDivisionError("oops")

    assert failure.guard(bug) == 1
    said = capsys.readouterr().err
    log = tmp_path / "baremetal" / "cli-error.log"
    assert "this should not happen: ZeroDivisionError: oops" in said
    assert str(log) in said
    assert "Traceback" not in said
    assert "ZeroDivisionError" in log.read_text()
    monkeypatch.setenv("BAREMETAL_DEBUG", "1")
    with pytest.raises(ZeroDivisionError):
        failure.guard(bug)
