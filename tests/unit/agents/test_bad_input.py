"""What comes in is bad; it is said clearly, and the last good configuration stays."""

import datetime
import shutil
import subprocess
from pathlib import Path

import pytest
from conftest_agents import REPO, until
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key

from baremetal.agents.apply import jinja, mustache
from baremetal.agents.apply.errors import BadTemplate
from baremetal.agents.apply.guard import bounded

GOOD = {"greeting": "hello"}


def first_boot(server, machine):
    machine.template("etc/motd", "{{greeting}} {{more}}\n")
    server.publish(1, GOOD)
    machine.start(server.drive())
    until(lambda: server.reports(), machine.log)
    assert machine.out("etc/motd") == "hello \n"


def outcome(server, machine, generation, seconds=20.0):
    """What was said of this generation."""

    def said():
        return next((r for r in server.reports() if r["metadata_generation"] == generation), None)

    return until(said, machine.log, seconds)


def test_fifty_megabytes_are_refused_and_the_agent_stays_small(server, machine):
    first_boot(server, machine)
    raw = server.document(2, {"greeting": "x" * 50_000_000})
    metadata = {"generation": 2, "document": raw.decode(), "signature": server.key.sign(raw)}
    # Not through the plane link, which takes no such frame: the server itself lies.
    server.loop.call_soon_threadsafe(server.state.change, 99, [server.view(metadata)], ())
    report = until(lambda: next((r for r in server.reports() if r["outcome"] == "failed"), None), machine.log)
    assert "too large" in report["fault"]["brief"]
    assert machine.out("etc/motd") == "hello \n"
    pages = int(Path(f"/proc/{machine.process.pid}/statm").read_text().split()[1])
    assert pages * 4096 < 80 * 2**20, "the large answer was not kept"


BAD_VALUES = [  # what the server signs            what becomes of it
    ({"greeting": "\ud800"}, "failed"),  # a lone surrogate is no text
    ({"greeting": "a\x00b\x07"}, "applied"),
    ({"greeting": {"nested": [None, 1.5e300, {"": {"": []}}]}}, "applied"),
    ({"greeting": "hello", "../../etc/passwd": {"..": "x"}}, "unchanged"),
    ({"": "", "greeting": []}, "applied"),
]


@pytest.mark.parametrize(("values", "result"), BAD_VALUES, ids=range(len(BAD_VALUES)))
def test_odd_values(server, machine, values, result):
    first_boot(server, machine)
    server.publish(2, values)
    assert outcome(server, machine, 2)["outcome"] == result
    if result == "failed":
        assert machine.out("etc/motd") == "hello \n"


def test_hostile_names_of_deployments_reach_no_file(server, machine):
    first_boot(server, machine)
    names = ["../x", "/etc/x", ".hidden", "os_config_files", "good", "a\nb", "x" * 5000]
    server.publish(2, GOOD, [{"name": name, "config": {"more": "m"}} for name in names])
    assert outcome(server, machine, 2)["outcome"] == "applied"
    assert machine.out("etc/motd") == "hello m\n"
    assert sorted(p.name for p in (machine.directory / "cache").glob("*.json")) == [
        "baremetal.json",
        "ec2.json",
        "good.json",
        "os_config_files.json",
    ]
    assert not (machine.directory / "x.json").exists()


NOT_DOCUMENTS = [
    b"",
    b"[]",
    b"null",
    b'{"schema":1',
    b"[" * 100_000,
    b'{"schema":1,"node":"x","metadata_generation":true}',
]


@pytest.mark.parametrize("raw", NOT_DOCUMENTS, ids=range(len(NOT_DOCUMENTS)))
def test_signed_rubbish_is_refused(server, machine, raw):
    first_boot(server, machine)
    server.publish(2, {}, raw=raw)
    report = until(lambda: next((r for r in server.reports() if r["outcome"] == "failed"), None), machine.log)
    assert report["fault"]["code"] == "metadata-refused"
    assert machine.out("etc/motd") == "hello \n"


def test_a_script_that_hangs_forks_and_floods_is_ended(server, machine):
    first_boot(server, machine)
    machine.script(
        "configure.d/50-bad", "setsid sleep 300 &\nfor i in 1 2 3; do sleep 300 & done\nyes >&2 &\nsleep 300\n"
    )
    machine.stop()
    command = machine.arguments
    machine.arguments = lambda: [*command(), "--script-timeout", "2"]
    machine.start()
    server.publish(2, {"greeting": "new"})
    report = outcome(server, machine, 2)
    assert (report["outcome"], report["scripts"][0]["name"]) == ("failed", "50-bad")
    assert len(report["scripts"][0]["tail"]) <= 2000
    assert machine.out("etc/motd") == "hello \n"
    left = subprocess.run(["pgrep", "-f", "^sleep 300$"], capture_output=True, text=True).stdout.split()
    mine = [p for p in left if str(machine.directory) in _environment(p)]
    assert mine == []


def _environment(pid):
    try:
        return Path(f"/proc/{pid}/environ").read_text(errors="replace")
    except OSError:
        return ""


def test_a_certificate_years_out_of_date_is_no_reason_to_stop(server, machine):
    """A node whose clock is years off sees every certificate so."""
    key = load_pem_private_key((server.directory / "ca.key").read_bytes(), None)
    old = x509.load_pem_x509_certificate((server.directory / "server.pem").read_bytes())
    when = datetime.datetime(2001, 1, 1, tzinfo=datetime.UTC)
    made = x509.CertificateBuilder().issuer_name(old.issuer).subject_name(old.subject)
    made = made.public_key(old.public_key()).serial_number(old.serial_number)
    made = made.not_valid_before(when).not_valid_after(when + datetime.timedelta(days=1))
    for extension in old.extensions:
        made = made.add_extension(extension.value, extension.critical)
    (server.directory / "server.pem").write_bytes(made.sign(key, hashes.SHA256()).public_bytes(Encoding.PEM))
    server.vanish()
    server.come_back()
    first_boot(server, machine)


LOOPS = [
    "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}",
    "{% set ns = namespace(x='xxxxxxxx') %}{% for a in range(60) %}{% set ns.x = ns.x ~ ns.x %}{% endfor %}",
]


@pytest.mark.parametrize("text", LOOPS)
def test_a_template_that_loops_or_grows_is_ended(text):
    parsed = jinja.parse(text)
    with pytest.raises(BadTemplate), bounded(lambda: "template x", seconds=1.0, size=128 * 2**20):
        jinja.render(parsed, {})


def test_sections_that_multiply_are_ended():
    parsed = mustache.parse("{{#a}}" * 12 + "xxxxxxxx" + "{{/a}}" * 12)
    with pytest.raises(BadTemplate), bounded(lambda: "template x", seconds=1.0, size=128 * 2**20):
        mustache.render(parsed, {"a": list(range(100))})


def test_units_are_what_this_systemd_knows(tmp_path):
    assert shutil.which("systemd-analyze"), "Debian's package systemd is missing"
    for unit in (REPO / "elements").rglob("*.service"):
        text = unit.read_text().replace("/usr/bin/baremetal", "/bin/true")
        (tmp_path / unit.name).write_text(text)
        done = subprocess.run(["systemd-analyze", "verify", tmp_path / unit.name], capture_output=True, text=True)
        assert str(unit.name) not in done.stderr, done.stderr
