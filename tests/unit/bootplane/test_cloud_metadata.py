"""EC2 and OpenStack paths: for deployed nodes only, by their address, without the document's values."""

import json

import pytest
from conftest_bootplane import until, view

from baremetal.model.boot import Purpose

DOCUMENT = {"values": {"ssh": {"keys": {"ann": "ssh-ed25519 AAAA ann"}}, "database": {"password": "hidden"}}}


@pytest.fixture
async def deployed(rig):
    meta = {"generation": 1, "document": json.dumps(DOCUMENT), "signature": ""}
    rig.control.push(view(purpose=Purpose.DISK, metadata=meta))
    await until(lambda: rig.state.nodes["n1"].record.purpose is Purpose.DISK)
    return rig


CASES = [  # path, body
    ("/latest/meta-data/instance-id", "n1"),
    ("/latest/meta-data/local-hostname", "name-n1"),
    ("/2009-04-04/meta-data/public-keys/0/openssh-key", "ssh-ed25519 AAAA ann"),
    ("/latest/meta-data/public-keys/", "0=ann"),
]


@pytest.mark.parametrize(("path", "body"), CASES)
async def test_ec2(deployed, path, body):
    async with deployed.session.get(deployed.http + path) as answer:
        assert (answer.status, await answer.text()) == (200, body)


async def test_openstack(deployed):
    async with deployed.session.get(deployed.http + "/openstack/latest/meta_data.json") as answer:
        document = await answer.json()
    assert (document["uuid"], document["public_keys"]) == ("n1", {"ann": "ssh-ed25519 AAAA ann"})
    assert "hidden" not in json.dumps(document)


@pytest.mark.parametrize(
    "path", ["/latest/user-data", "/latest/meta-data/x", "/openstack/latest/password", "/latest/../x"]
)
async def test_what_is_not_there(deployed, path):
    async with deployed.session.get(deployed.http + path) as answer:
        assert answer.status == 404


async def test_a_ramdisk_is_no_instance(rig):
    async with rig.session.get(rig.http + "/latest/meta-data/instance-id") as answer:
        assert answer.status == 404
