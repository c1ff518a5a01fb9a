"""Provenance, differences, directives, roll-out: rows of a datasheet."""

import pytest

from baremetal.errors import UsageError
from baremetal.model.metadata import (
    ALPHABET,
    MASK,
    Applied,
    Difference,
    Peer,
    Site,
    batch_size,
    difference,
    explain,
    masked,
    next_step,
    refers_to_nodes,
    resolve,
    secret_paths,
    summary,
)
from baremetal.protocol import imds

PEERS = [
    Peer("c2", "10.0.0.12", {"role": "controller"}),
    Peer("c1", "10.0.0.11", {"role": "controller", "zone": "a"}),
    Peer("c3", None, {"role": "controller"}),
    Peer("w1", "10.0.0.21", {"role": "compute"}),
]


def test_explain_says_which_layer_won_and_what_it_hid():
    layers = [
        ("defaults", {"web": {"port": 80, "name": "x"}, "ntp": ["a"]}),
        ("site", {"web": {"port": 8080}, "ntp": ["b", "c"]}),
        ("node", {"web": {"name": None}}),
    ]
    found = {o.path: (o.value, o.layer, o.hides) for o in explain(layers)}
    assert found == {
        "ntp": (["b", "c"], "site", (("defaults", ["a"]),)),
        "web.port": (8080, "site", (("defaults", 80),)),
    }


def test_an_object_in_place_of_a_value_hides_it():
    found = explain([("defaults", {"a": 1}), ("site", {"a": {"b": 2}})])
    assert [(o.path, o.layer, o.hides) for o in found] == [("a.b", "site", (("defaults", 1),))]


def test_difference_by_leaf():
    assert difference({"a": {"b": 1}, "c": 1}, {"a": {"b": 2}, "d": 1}) == [
        Difference("a.b", "changed", 1, 2),
        Difference("c", "removed", 1),
        Difference("d", "added", new=1),
    ]
    assert difference({"a": 1}, {"a": True})


@pytest.mark.parametrize(
    ("give", "value"),
    [
        ("addresses", ["10.0.0.11", "10.0.0.12"]),
        ("names", ["c1", "c2", "c3"]),
        ("first", "c1"),
        ("first_address", "10.0.0.11"),
        ("is_first", False),
        ("hosts_file", "10.0.0.11 c1\n10.0.0.12 c2\n"),
        ("count", 3),
        ("hosts", [{"address": "10.0.0.11", "name": "c1"}, {"address": "10.0.0.12", "name": "c2"}]),
    ],
)
def test_facts_of_other_nodes(give, value):
    values = {"cluster": {"members": {"$nodes": "role=controller", "give": give}}}
    assert resolve(values, Site(PEERS, "w1"))["cluster"]["members"] == value
    assert refers_to_nodes(values)


def test_generated_passwords_stay_and_differ_by_scope_path_and_version():
    def password(path, node="n1", **more):
        values = {path: {"$generate": "password", **more}}
        return resolve(values, Site([], node, "compute", b"k" * 32))[path]

    assert password("a") == password("a", node="n2")
    assert len(password("a")) == 32
    assert set(password("a")) <= set(ALPHABET)
    different = [password("a"), password("b"), password("a", version=2), password("a", scope="role")]
    different += [password("a", scope="node"), password("a", scope="node", node="n2")]
    assert len(set(different)) == 6


@pytest.mark.parametrize(
    "wrong",
    [
        {"$nodes": "controller"},
        {"$nodes": "a=b", "give": "x"},
        {"$generate": "key"},
        {"$generate": "password", "length": 1},
        {"$secret": "unknown"},
    ],
)
def test_wrong_directives_name_their_path(wrong):
    with pytest.raises(UsageError, match=r"a\.b"):
        resolve({"a": {"b": wrong}}, Site([], "n", key=b"k"))


def test_keys_and_secrets_of_operators():
    site = Site([], "n1", key=b"k" * 32, secrets={"ldap": "s3cret"}, ssh_key=lambda seed: {"public": seed.hex()})
    values = {"h": {"$generate": "hex", "length": 40}, "u": {"$generate": "uuid"}, "k": {"$generate": "ssh-key"}}
    found = resolve({**values, "l": {"bind": {"$secret": "ldap"}}}, site)
    assert (len(found["h"]), len(found["u"]), found["l"]["bind"]) == (40, 36, "s3cret")
    assert found["k"] == resolve(values, site)["k"]
    assert secret_paths({**values, "x": [{"$secret": "ldap"}]}) == ["h", "u", "k", "x.0"]


def test_secrets_are_masked_by_path_and_by_name():
    values = {"a": {"b": "x"}, "admin_password": "y", "l": ["z"], "private_key": "", "tokens": 3}
    stars = {"a": {"b": MASK}, "admin_password": MASK, "l": [MASK], "private_key": "", "tokens": 3}
    assert masked(values, ["a.b", "l.0"]) == stars


def test_summary_in_one_line():
    nodes = [
        Applied("a", 12, 12, "applied"),
        Applied("b", 12, 11, "applied"),
        Applied("c", 12, 11, "failed", "51-keystone failed", "51-keystone"),
        Applied("d", 12, 12, "drift"),
    ]
    told = "2 of 4 on generation 12; 1 applying; c failed in 51-keystone, rolled back; files changed by hand on d"
    assert summary(nodes) == told
    assert (
        summary([Applied("a", 12, 12, "applied"), Applied("b", 3, 3, "applied")]) == "2 of 2 on their newest generation"
    )


def test_rollout_canary_then_batches_and_stops_at_the_first_failure():
    order = ["a", "b", "c", "d", "e"]
    seen, outcomes = [], {}
    while True:
        step = next_step(order, outcomes, canary=2, batch=2)
        if step.done:
            break
        seen.append(step.give)
        outcomes.update(dict.fromkeys(step.give, "applied"))
    assert seen == [("a", "b"), ("c", "d"), ("e",)]
    assert next_step(order, {"a": ""}, canary=2, batch=2).give == ()
    assert next_step(order, {"a": "failed", "b": "applied"}, canary=2, batch=2).stopped == "a"


def test_batch_sizes():
    assert [batch_size(t, 40) for t in ("10%", "3", "1%")] == [4, 3, 1]
    with pytest.raises(UsageError):
        batch_size("x", 1)


def test_the_cloud_tables_hold_together():
    instance = imds.Instance("id-1", "r1-u07", "10.0.0.7", {"me": "ssh-ed25519 AAAA me"}, user_data=b"#!/bin/sh\n")
    table = imds.table(instance)
    assert table["/latest/meta-data/public-keys/"] == b"0=me"
    assert table["/latest/meta-data/public-keys/0/openssh-key"] == b"ssh-ed25519 AAAA me"
    assert table["/latest/meta-data/placement/availability-zone"] == b"baremetal"
    assert b"public-keys/" in table["/latest/meta-data/"].splitlines()
    assert b"meta_data.json" in table["/openstack/latest/"].splitlines()
    assert b'"uuid":"id-1"' in table["/openstack/2013-10-17/meta_data.json"]
    assert imds.drive_files(instance)["openstack/latest/user_data"] == b"#!/bin/sh\n"
