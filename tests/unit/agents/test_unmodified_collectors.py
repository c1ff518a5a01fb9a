"""Clients that know nothing of us: our collect command and, in ring peers, the original os-collect-config.

BAREMETAL_PEER_ORIGINALS names the bin directory of a virtual environment with
os-collect-config, os-apply-config and os-refresh-config.
"""

import json
import os
import ssl
import subprocess
import sys
import urllib.error
import urllib.request

import pytest
from conftest_agents import REPO, TOKEN, clean_environment

VALUES = {"greeting": "hello", "ssh": {"keys": {"me": "ssh-ed25519 AAAA me"}}}
DEPLOYMENTS = [{"name": "web", "group": "os-apply-config", "config": {"port": 8080}}]


@pytest.fixture
def serving(server):
    server.publish(3, VALUES, DEPLOYMENTS)
    url = f"http://127.0.0.1:{server.http_port}/latest/meta-data/instance-id"
    for _ in range(200):
        with urllib.request.urlopen(url) as answer:
            if answer.status == 200 and server.state.nodes and next(iter(server.state.nodes.values())).view.metadata:
                return server
    raise AssertionError("no metadata")


def collected(serving, tmp_path, command):
    """What --print gives with the sources request and ec2."""
    configuration = tmp_path / "collect.conf"
    configuration.write_text(
        "[DEFAULT]\n"
        f"[request]\nmetadata_url = https://127.0.0.1:{serving.port}/agent/v1/request/{TOKEN}\n"
        f"[ec2]\nmetadata_url = http://127.0.0.1:{serving.http_port}/latest/meta-data\n"
    )
    ca = str(serving.directory / "ca.pem")
    env = {**clean_environment(), "SSL_CERT_FILE": ca, "REQUESTS_CA_BUNDLE": ca, "LC_ALL": "C"}
    words = ["--config-file", str(configuration), "--cachedir", str(tmp_path), "--print", "request", "ec2"]
    done = subprocess.run([*command, *words], capture_output=True, text=True, env=env, cwd=REPO)
    return json.loads(done.stdout or "null"), done.stderr


def check(found, said):
    assert found, said
    assert found["request"] == {**VALUES, "deployments": DEPLOYMENTS}
    assert found["web"] == {"port": 8080}
    assert found["ec2"]["local-hostname"] == "r1-u07"
    assert found["ec2"]["public-keys"]["0"]["openssh-key"] == "ssh-ed25519 AAAA me"


def test_our_collect_reads_request_and_ec2(serving, tmp_path):
    check(*collected(serving, tmp_path, [sys.executable, "-m", "baremetal.agents", "collect"]))


@pytest.mark.peers
def test_the_original_reads_request_and_ec2(serving, tmp_path):
    originals = os.environ.get("BAREMETAL_PEER_ORIGINALS")
    assert originals, "set BAREMETAL_PEER_ORIGINALS to a bin directory with os-collect-config"
    check(*collected(serving, tmp_path, [f"{originals}/os-collect-config"]))


def test_a_wrong_address_gets_nothing(serving):
    for path in ("request/wrong", "request/", f"request/{TOKEN}x"):
        context = ssl.create_default_context(cafile=str(serving.directory / "ca.pem"))
        with pytest.raises(urllib.error.HTTPError) as refused:
            urllib.request.urlopen(f"https://127.0.0.1:{serving.port}/agent/v1/{path}", context=context)
        assert refused.value.code in (401, 404)
