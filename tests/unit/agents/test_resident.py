"""The resident agent as a process, against the real boot plane over TLS."""

import json
import time

from conftest_agents import NONCE, Key, until


def outcomes(server):
    return [(r["metadata_generation"], r["outcome"]) for r in server.reports()]


def first_boot(server, machine, values=None, **drive):
    values = {"greeting": "hello"} if values is None else values
    machine.template("etc/motd", "{{greeting}} from {{local-hostname}}\n")
    server.publish(1, values)
    machine.start(server.drive(**drive))
    until(lambda: (1, "applied") in outcomes(server), lambda: machine.log() + str(server.reports()))


def test_first_boot_configures_and_reports(server, machine):
    machine.script("post-configure.d/50-note", f"os=$OS_CONFIG_FILES; echo run >> {machine.directory}/note\n")
    first_boot(server, machine)
    assert machine.out("etc/motd") == "hello from r1-u07\n"
    assert machine.out("etc/hostname") == "r1-u07\n"
    assert (machine.directory / "note").read_text() == "run\n"
    assert server.hellos[0]["nonce"] == NONCE
    assert server.hellos[0]["agent"] == "instance"
    assert (machine.directory / "state/token").stat().st_mode & 0o777 == 0o600
    report = server.reports()[0]
    assert {"path": str(machine.directory / "out/etc/motd"), "change": "created"} in report["files"]
    assert report["scripts"][0]["name"] == "50-note"
    assert report["facts"]["kernel"]


def test_the_drive_document_is_applied_before_the_server_is_reached(server, machine):
    raw = server.document(1, {"greeting": "early"})
    files = {"baremetal/metadata.json": raw, "baremetal/metadata.sig": server.key.sign(raw).encode()}
    machine.template("motd", "{{greeting}}")
    machine.start(server.drive(agent={"urls": ["https://127.0.0.1:1"]}, **files))
    until(lambda: (machine.directory / "out/motd").exists(), machine.log)
    assert machine.out("motd") == "early"


def test_a_change_arrives_by_the_held_request(server, machine):
    first_boot(server, machine)
    begun = time.monotonic()
    server.publish(2, {"greeting": "changed"})
    until(lambda: (2, "applied") in outcomes(server), machine.log)
    print(f"change to report: {(time.monotonic() - begun) * 1000:.0f} ms")
    assert machine.out("etc/motd") == "changed from r1-u07\n"
    assert len(server.hellos) == 1


def test_a_failing_script_puts_everything_back(server, machine):
    machine.script(
        "configure.d/10-a", f'echo "ran $(cat {machine.directory}/out/etc/motd)" >> {machine.directory}/note\n'
    )
    machine.script(
        "configure.d/51-keystone",
        "grep -q bad $(echo $OS_CONFIG_FILES | cut -d: -f2) && { echo no such host; exit 3; } || true\n",
    )
    first_boot(server, machine)
    server.publish(2, {"greeting": "bad", "password": "s3cret-value"})
    until(lambda: (2, "failed") in outcomes(server), machine.log)
    report = server.reports()[-1]
    assert machine.out("etc/motd") == "hello from r1-u07\n"
    assert "configure.d/51-keystone" in report["fault"]["brief"]
    assert "no such host" in report["fault"]["detail"]
    # the scripts ran again on what was good, so that services are back as well
    notes = (machine.directory / "note").read_text().splitlines()
    assert notes == ["ran hello from r1-u07", "ran bad from r1-u07", "ran hello from r1-u07"]
    cached = json.loads((machine.directory / "cache/baremetal.json").read_text())
    assert cached == {"greeting": "hello"}
    server.publish(3, {"greeting": "good"})
    until(lambda: (3, "applied") in outcomes(server), machine.log)
    assert machine.out("etc/motd") == "good from r1-u07\n"


def test_a_bad_template_leaves_every_file_alone(server, machine):
    first_boot(server, machine)
    machine.template("etc/other", "{{#x}}never closed")
    server.publish(2, {"greeting": "two"})
    until(lambda: (2, "failed") in outcomes(server), machine.log)
    assert "etc/other" in server.reports()[-1]["fault"]["brief"]
    assert machine.out("etc/motd") == "hello from r1-u07\n"


def refused(server, machine, **publish):
    first_boot(server, machine)
    server.publish(**publish)
    until(lambda: len(server.reports()) > 1, machine.log)
    assert machine.out("etc/motd") == "hello from r1-u07\n"
    return server.reports()[-1]


def test_a_document_of_another_key_is_refused(server, machine):
    raw = server.document(2, {"greeting": "evil"})
    report = refused(server, machine, generation=2, values={}, raw=raw, signature=Key().sign(raw))
    assert report["fault"]["code"] == "metadata-refused"
    assert report["metadata_generation"] == 1


def test_an_older_generation_is_refused(server, machine):
    report = refused(server, machine, generation=0, values={"greeting": "old"})
    assert "older" in report["fault"]["brief"]


def test_a_document_for_another_node_is_refused(server, machine):
    raw = server.document(2, {}, node="another")
    assert "another" in refused(server, machine, generation=2, values={}, raw=raw)["fault"]["brief"]


def test_empty_metadata_never_blanks_a_file(server, machine):
    assert refused(server, machine, generation=2, values={})["fault"]["code"] == "metadata-empty"


def test_a_vanished_server_changes_nothing_and_is_found_again(server, machine):
    first_boot(server, machine)
    server.vanish()
    server.publish(2, {"greeting": "later"})
    time.sleep(0.5)
    assert machine.out("etc/motd") == "hello from r1-u07\n"
    server.come_back()
    until(lambda: (2, "applied") in outcomes(server), machine.log)


def test_killed_and_started_again(server, machine):
    first_boot(server, machine)
    machine.stop(9)
    server.publish(2, {"greeting": "while away"})
    machine.start()
    until(lambda: (2, "applied") in outcomes(server), machine.log)
    assert len(server.hellos) == 1
    assert machine.out("etc/motd") == "while away from r1-u07\n"


def test_files_of_vanished_templates_go(server, machine):
    machine.template("etc/extra", "{{greeting}}")
    first_boot(server, machine)
    (machine.directory / "templates/etc/extra").unlink()
    server.publish(2, {"greeting": "two"})
    until(lambda: (2, "applied") in outcomes(server), machine.log)
    assert not (machine.directory / "out/etc/extra").exists()


def test_status_drift_and_rollback(server, machine):
    first_boot(server, machine)
    server.publish(2, {"greeting": "two"})
    until(lambda: (2, "applied") in outcomes(server), machine.log)
    state = ["--state", str(machine.directory / "state")]
    found = machine.agent("status", "--json", *state)
    assert (found.returncode, json.loads(found.stdout)["applied"]) == (0, 2)
    assert machine.agent("rollback", *state).returncode == 0
    assert machine.out("etc/motd") == "hello from r1-u07\n"
    assert machine.agent("status", *state).returncode == 3
    server.publish(3, {"greeting": "three"})
    until(lambda: (3, "applied") in outcomes(server), machine.log)
    assert machine.out("etc/motd") == "three from r1-u07\n"


def test_deployments_are_sources_and_the_last_wins(server, machine):
    machine.template("etc/motd", "{{greeting}} {{x}}")
    server.publish(
        1, {"greeting": "a", "x": 1}, [{"name": "d1", "config": {"x": 2}}, {"name": "../evil", "config": {}}]
    )
    machine.start(server.drive())
    until(lambda: (1, "applied") in outcomes(server), machine.log)
    assert machine.out("etc/motd") == "a 2"
    listed = json.loads((machine.directory / "cache/os_config_files.json").read_text())
    assert [p.rpartition("/")[2] for p in listed] == ["ec2.json", "baremetal.json", "d1.json"]


def test_no_drive_no_work(machine):
    result = machine.agent("run", *machine.arguments(), "--drive-wait", "0")
    assert (result.returncode, "not ours" in result.stderr) == (0, True)
