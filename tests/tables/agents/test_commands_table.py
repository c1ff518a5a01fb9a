"""The commands as scripts use them: exit status, output, files. Each row is a run of its own."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

REPO = Path(__file__).parents[3]
MD = {"s": "plain", "i": 42, "b": True, "no": False, "n": None, "d": {"x": [1, {"y": "z"}]}, "nl": "x\n", "bad": "a;b"}


def run(*arguments, env=None, cwd=None, stdin=None):
    command = [sys.executable, "-m", "baremetal.agents", *map(str, arguments)]
    clean = {k: v for k, v in os.environ.items() if not k.startswith("OS_")}
    return subprocess.run(
        command,
        capture_output=True,
        text=True,
        env={**clean, "PYTHONPATH": str(REPO), **(env or {})},
        cwd=cwd,
        stdin=stdin,
    )


@pytest.fixture
def md(tmp_path):
    path = tmp_path / "md.json"
    path.write_text(json.dumps(MD))
    return path


KEYS = [  # options                                        exit  stdout
    (["--key", "s"], 0, "plain\n"),
    (["--key", "i", "--type", "int"], 0, "42\n"),
    (["--key", "b"], 0, "true\n"),
    (["--key", "d", "--type", "raw"], 0, '{"x": [1, {"y": "z"}]}\n'),
    (["--key", "d.x.1.y"], 0, "z\n"),
    (["--key", "d.x.-1.y"], 0, "z\n"),
    (["--key", "n", "--key-default", ""], 0, "\n"),
    (["--key", "", "--key-default", "d"], 0, "d\n"),  # the original installed the whole tree here
    (["--key", ""], 1, ""),
    (["--key", "nope"], 1, ""),
    (["--key", "nl"], 1, ""),  # the original let a trailing newline through
    (["--key", "bad"], 1, ""),
    (["--key", "s", "--type", "nonsense"], 1, ""),
    (["--boolean-key", "b"], 0, ""),
    (["--boolean-key", "no"], 1, ""),
    (["--boolean-key", "i"], 255, ""),
    (["--boolean-key", "nope"], 255, ""),
]


@pytest.mark.parametrize(("options", "status", "out"), KEYS)
def test_key(md, options, status, out):
    result = run("apply", "--fallback-metadata", "-m", md, *options)
    assert (result.returncode, result.stdout) == (status, out), result.stderr


def tree(tmp_path, **files):
    for name, text in files.items():
        path = tmp_path / "t" / name.replace("__", "/").replace("DOT", ".")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return ["-t", tmp_path / "t", "-o", tmp_path / "out", "--fallback-metadata"]


def test_jinja_and_mustache_side_by_side(tmp_path, md):
    options = tree(tmp_path, aDOTconfDOTj2="{% for v in d.x[:1] %}{{ v }}{% endfor %} {{ s | upper }}\n", b="{{s}}\n")
    assert run("apply", "-m", md, *options).returncode == 0
    assert (tmp_path / "out/a.conf").read_text() == "1 PLAIN\n"
    assert (tmp_path / "out/b").read_text() == "plain\n"


BAD_JINJA = [
    "{{ nope }}",
    "{{ s",
    "{{ ''.__class__.__mro__ }}",
    "{{ 'x' * 10**9 }}",
    "{{ 10 ** 1000000 }}",
    "{% include 'x' %}",
]


@pytest.mark.parametrize("template", BAD_JINJA)
def test_jinja_errors_name_the_template_and_write_nothing(tmp_path, md, template):
    options = tree(tmp_path, good="x", badDOTj2="\n" + template)
    result = run("apply", "-m", md, *options)
    assert result.returncode == 1
    assert "bad.j2, line 2" in result.stderr or "bad.j2" in result.stderr
    assert "Traceback" not in result.stderr
    assert not (tmp_path / "out").exists()


def test_no_metadata_at_all_is_refused(tmp_path):
    options = tree(tmp_path, x="{{a}}")
    (tmp_path / "out").mkdir()
    (tmp_path / "out/x").write_text("good")
    assert run("apply", *options, "-m", tmp_path / "none.json").returncode == 1
    assert (tmp_path / "out/x").read_text() == "good"
    assert run("apply", *options, "-m", tmp_path / "none.json", "--allow-empty-metadata").returncode == 0


def test_unchanged_files_are_not_touched(tmp_path, md):
    options = tree(tmp_path, x="{{s}}")
    run("apply", "-m", md, *options)
    before = (tmp_path / "out/x").stat()
    run("apply", "-m", md, *options)
    after = (tmp_path / "out/x").stat()
    assert (before.st_ino, before.st_mtime_ns) == (after.st_ino, after.st_mtime_ns)


def test_check_refuses_and_nothing_changes(tmp_path, md):
    options = tree(tmp_path, xDOToac='version: 2\ncheck: "grep -q good %s"\n', x="bad {{s}}", y="{{s}}")
    result = run("apply", "-m", md, *options)
    assert result.returncode == 1
    assert "its check refused" in result.stderr
    assert list((tmp_path / "out").iterdir()) == [] if (tmp_path / "out").exists() else True


def test_strict_by_control_file(tmp_path, md):
    options = tree(tmp_path, xDOToac="version: 2\nmissing: error\n", x="{{nope}}", y="{{nope}}")
    result = run("apply", "-m", md, *options)
    assert (result.returncode, "no value for 'nope'" in result.stderr) == (1, True)


def test_diff_masks_secrets(tmp_path):
    md = tmp_path / "md.json"
    md.write_text(json.dumps({"db": {"password": "hunter22"}, "host": "h"}))
    options = tree(
        tmp_path, x="url=mysql://u:hunter22@{{host}}\npw={{db.password}}\n", y="{{host}}", yDOToac="mode: 0600"
    )
    result = run("apply", "-m", md, *options, "--diff")
    assert result.returncode == 2
    assert "hunter22" not in result.stdout
    assert "+pw=******" in result.stdout
    assert "+h" not in result.stdout.splitlines()
    assert not (tmp_path / "out").exists()
    run("apply", "-m", md, *options)
    assert run("apply", "-m", md, *options, "--diff").returncode == 0


def test_diff_masks_the_secret_that_was_there_before(tmp_path):
    options = tree(tmp_path, x="plain {{k}}\n{{db.password}}\nurl={{db.password}};end\n")
    for secret in ("earlier-secret", "another-secret"):
        (tmp_path / "md.json").write_text(json.dumps({"k": "v", "db": {"password": secret}}))
        result = run("diff", "-m", tmp_path / "md.json", *options)
        assert (result.returncode, secret in result.stdout) == (2, False)
        assert run("apply", "-m", tmp_path / "md.json", *options).returncode == 0
    assert "earlier-secret" not in result.stdout
    assert "-****** (an earlier secret)" in result.stdout
    assert " plain v" in result.stdout


def test_two_templates_for_one_file_is_an_error(tmp_path, md):
    assert run("apply", "-m", md, *tree(tmp_path, x="a", xDOTj2="b")).returncode == 1


HOSTILE = ["[" * 100_000, '{"a":' * 5000 + "1" + "}" * 5000, "\xff", "", "[]", '{"a": "\\ud800"}']


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_metadata_is_an_error_or_nothing(tmp_path, text):
    path = tmp_path / "md.json"
    path.write_text(text, encoding="latin-1")
    result = run("apply", "-m", path, *tree(tmp_path, x="{{a}}"))
    assert result.returncode in (0, 1)
    assert "Traceback" not in result.stderr


PROGRAMS = [  # a template that is a program        what is said of it
    ("exec yes aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", "printed more than"),
    ("exec sleep 60", "takes longer than"),
    ("sleep 60 & exit 0", "takes longer than"),  # holds its stdout open
    ("yes >&2 & sleep 0.1; kill $!; exit 3", "exit status 3"),
]


@pytest.mark.parametrize(("body", "said"), PROGRAMS)
def test_a_program_that_does_not_end_well_writes_nothing(tmp_path, md, body, said):
    options = tree(tmp_path, x="#!/bin/sh\n" + body + "\n", y="fine")
    (tmp_path / "t/x").chmod(0o755)
    result = run("apply", "-m", md, *options, "--exec-timeout", "5")
    assert (result.returncode, said in result.stderr) == (1, True), result.stderr
    assert not (tmp_path / "out").exists()


def test_an_output_that_cannot_be_written_is_said(tmp_path, md):
    tree(tmp_path, x="{{s}}")
    result = run("apply", "-m", md, "-t", tmp_path / "t", "-o", "/dev/null/out", "--fallback-metadata")
    assert result.returncode == 1
    assert "Traceback" not in result.stderr


def test_refresh_kills_what_a_script_started(tmp_path):
    script = tmp_path / "orc/configure.d/10-a"
    script.parent.mkdir(parents=True)
    script.write_text(f"#!/bin/bash\n(sleep 60; touch {tmp_path}/late) &\n(setsid sleep 61 &)\nsleep 60\n")
    script.chmod(0o755)
    result = run(
        "refresh",
        "--timeout",
        "1",
        "--lockfile",
        tmp_path / "lock",
        env={"OS_REFRESH_CONFIG_BASE_DIR": str(tmp_path / "orc")},
    )
    assert result.returncode == 1
    assert "10-a" in result.stderr


def test_dib_run_parts_lists_in_order(tmp_path):
    for name in ("10-b", "9-a", "skip.sh", "100-c"):
        (tmp_path / name).write_text("#!/bin/sh\n")
        (tmp_path / name).chmod(0o755)
    result = run("run-parts", "--list", tmp_path)
    assert [Path(p).name for p in result.stdout.split()] == ["9-a", "10-b", "100-c"]


def test_collect_refuses_hostile_deployment_names(tmp_path):
    document = {
        "deployments": [{"name": n, "config": {"x": 1}} for n in ("../../evil", ".hidden", "os_config_files", "good")]
    }
    from baremetal.agents.collect.split import split

    assert [name for name, _ in split("request", document, ["deployments"])] == ["request", "good"]


def test_the_verbs_are_listed():
    assert "rollback" in run("--help").stdout
    assert run("nonsense").returncode == 2
