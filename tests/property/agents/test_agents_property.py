"""Any template, any metadata, a kill between any two effects: a clean outcome, never half of one."""

import contextlib
import json
import os
import tempfile
from pathlib import Path

from hypothesis import example, given, settings
from hypothesis import strategies as st

from baremetal.agents.apply import cli, control, metadata, mustache
from baremetal.agents.apply.errors import ApplyError
from baremetal.agents.collect import inifile
from baremetal.agents.collect.errors import BadConfig
from baremetal.agents.collect.split import split, usable
from baremetal.agents.resident import networkd
from baremetal.model.layers import merge as merge_layers
from baremetal.model.metadata import difference, explain, leaves

KEYS = st.sampled_from(["a", "b", "c", "d e", "f::g"])
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3),
    max_leaves=12,
)
OBJECT = st.dictionaries(KEYS, JSON, max_size=4)
TAGS = [
    "{{",
    "}}",
    "{{a}}",
    "{{{b}}}",
    "{{#a}}",
    "{{/a}}",
    "{{^a}}",
    "{{#b}}",
    "{{/b}}",
    "{{.}}",
    "{{!x}}",
    "text",
    "{{=<%%>=}}",
    "<%a%>",
    "{{>p}}",
]
PIECES = st.sampled_from([*TAGS, "\n", " ", "{{=<% %>=}}"])


@given(st.lists(PIECES | st.text(max_size=5), max_size=12).map("".join), OBJECT)
@settings(max_examples=300, deadline=None)
def test_any_template_renders_or_names_its_line(text, values):
    try:
        assert isinstance(mustache.render(mustache.parse(text), values), str)
    except mustache.MustacheError as exc:
        line = exc.line
    else:
        line = 1
    assert 1 <= line <= text.count("\n") + 1


@given(st.text().filter(lambda t: "{{" not in t))
def test_text_without_tags_is_itself(text):
    assert mustache.render(mustache.parse(text), {}) == text


@given(OBJECT, OBJECT)
def test_merge_lets_the_later_win_and_keeps_first_places(a, b):
    both = metadata.merge(a, b)
    assert list(both)[: len(a)] == list(a)
    assert set(both) == set(a) | set(b)
    assert metadata.merge(both, b) == both
    assert all(both[key] == value for key, value in b.items() if not isinstance(value, dict))


@given(OBJECT)
def test_roots_cover_whatever_a_template_shows(values):
    template = mustache.parse("{{#a}}{{b}}{{/a}}{{^c}}x{{/c}}{{d e}}")
    shown = mustache.render(template, values)
    kept = {k: v for k, v in values.items() if k in mustache.roots(template)}
    assert mustache.render(template, kept) == shown


@given(st.binary(max_size=80))
@example(b"mode: 0644\nowner: [")
def test_any_control_file_is_read_or_refused(raw):
    with contextlib.suppress(ApplyError):
        control.parse(raw, "x.oac")


@given(st.text(max_size=120))
def test_any_ini_text_is_read_or_refused(text):
    with contextlib.suppress(BadConfig):
        inifile.parse(text, "x.conf")


@given(st.recursive(JSON, lambda inner: st.fixed_dictionaries({"deployments": st.lists(inner, max_size=3)})))
def test_names_of_deployments_never_leave_the_cache(document):
    for name, _ in split("request", document, ["deployments"])[1:]:
        assert usable(name)
        assert os.path.dirname(os.path.normpath(f"/cache/{name}.json")) == "/cache"


LINK = st.fixed_dictionaries(
    {"id": st.sampled_from(["n1", "n2", "b0"]), "type": st.sampled_from(["phy", "bond", "vlan", "bridge", "x"])},
    optional={"ethernet_mac_address": st.just("52:54:00:00:00:01") | st.text(max_size=5), "vlan_link": st.just("n1"),
              "vlan_id": st.integers(), "bond_links": st.lists(st.sampled_from(["n1", "n2", "zz"])), "mtu": JSON},
)  # fmt: skip
NETWORK = st.fixed_dictionaries(
    {"id": st.just("x"), "link": st.sampled_from(["n1", "b0"]), "type": st.sampled_from(["ipv4", "ipv6", "ipv4_dhcp"])},
    optional={
        "ip_address": st.sampled_from(["10.0.0.1", "fd00::1/64", "x\n[Evil]"]),
        "netmask": st.sampled_from(["255.0.0.0", "1"]),
    },
)


@given(st.lists(LINK, max_size=3), st.lists(NETWORK, max_size=2))
@settings(deadline=None)
def test_any_network_data_is_rendered_or_refused_and_never_injects(links, networks):
    try:
        files = networkd.render({"links": links, "networks": networks})
    except networkd.BadNetworkData:
        return
    for name, text in files.items():
        assert "/" not in name
        assert "Evil" not in text


@given(st.lists(st.tuples(st.sampled_from(["defaults", "site", "role", "node"]), OBJECT), max_size=4))
def test_explain_agrees_with_merge(layers):
    merged = merge_layers(values for _, values in layers)
    explained = {o.path: o.value for o in explain(layers)}
    shown = {path: value for path, value in leaves(merged) if value not in ({}, None)}
    assert {p: v for p, v in explained.items() if v != {}} == shown


@given(OBJECT, OBJECT)
def test_no_difference_means_equal(a, b):
    assert difference(a, a) == []
    if not difference(a, b):
        assert dict(leaves(a)) == dict(leaves(b))


EFFECTS = ("open", "rename", "unlink", "mkdir", "fsync", "rmdir", "fchmod")


def counting(real, done, after):
    """The same function, that counts, and kills the process when it is its turn."""

    def counted(*a, **k):
        if done[0] == after:
            os.kill(os.getpid(), 9)
        done[0] += 1
        return real(*a, **k)

    return counted


def forked(after, arguments):
    """Run the command in a child that kills itself before its `after`th effect; (exit status, effects done)."""
    read_end, write_end = os.pipe()
    pid = os.fork()
    if pid == 0:
        done = [0]
        for name in EFFECTS:
            setattr(os, name, counting(getattr(os, name), done, after))
        status = cli.main([str(a) for a in arguments])
        os.write(write_end, str(done[0]).encode())
        os._exit(status)
    os.close(write_end)
    with os.fdopen(read_end) as pipe:
        effects = int(pipe.read() or -1)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), effects


def test_a_kill_between_any_two_effects_is_undone_or_completed_by_the_next_run():
    """Every file is old or new at any time, and after the next run all are new."""
    with tempfile.TemporaryDirectory() as scratch:
        base = Path(scratch)
        (base / "t/sub").mkdir(parents=True)
        for name in ("a", "b", "sub/c"):
            (base / "t" / name).write_text("{{v}} " + name)
        (base / "t/gone").write_text("{{nothing}}")
        (base / "t/gone.oac").write_text("allow_empty: false")
        arguments = [
            "-t",
            base / "t",
            "-o",
            base / "out",
            "--state",
            base / "state",
            "--fallback-metadata",
            "-m",
            base / "md",
        ]

        def run(after, version):
            (base / "md").write_text(json.dumps({"v": version}))
            return forked(after, arguments)

        def content():
            return {
                p.name: p.read_text() for p in (base / "out").rglob("*") if p.is_file() and not p.name.startswith(".")
            }

        def wanted(version):
            return {name: f"{version} {path}" for name, path in (("a", "a"), ("b", "b"), ("c", "sub/c"))}

        assert run(10**6, 0)[0] == 0
        effects = run(10**6, 1)[1]
        assert effects > 20
        for after in range(effects):
            old, new = wanted(after + 1), wanted(after + 2)
            (base / "out/gone").write_text("old")
            assert run(after, after + 2)[0] == -9
            found = content()
            assert all(found[name] in (old[name], new[name]) for name in old)
            assert run(10**6, after + 2)[0] == 0
            assert content() == new
            assert not [p for p in (base / "out").rglob("*") if "baremetal-new" in p.name]
