"""init makes every key once, a certificate that a plain TLS client believes, and an initrd with the anchors."""

import dataclasses
import json
import os
import ssl
import subprocess
from pathlib import Path
from types import SimpleNamespace

import pytest

from baremetal.config import Settings
from baremetal.errors import MachineError
from baremetal.model.network import Network
from baremetal.serve import anchors, tls
from baremetal.serve.init import initialise, missing

NETWORK = Network("prov", "prov0", "192.168.90.0/24", "192.168.90.1", "192.168.90.128", "192.168.90.254")


@pytest.fixture
def settings(tmp_path):
    return Settings(
        state_dir=tmp_path / "state", run_dir=tmp_path / "run", cache_dir=tmp_path / "cache", networks=(NETWORK,)
    )


def test_twice_is_once(settings):
    first = initialise(settings)
    assert missing(settings) == []
    contents = {p: p.read_bytes() for p in settings.state_dir.rglob("*") if p.is_file()}
    second = initialise(settings)
    assert second.made == []
    assert len(first.made) > len(contents) / 2
    assert {p: p.read_bytes() for p in settings.state_dir.rglob("*") if p.is_file()} == contents


def test_secrets_are_private(settings):
    initialise(settings)
    for name in ("keys/operator.key", "keys/metadata.key", "keys/image-signing.pem", "tls/ca.key", "tls/server.key"):
        assert (settings.state_dir / name).stat().st_mode & 0o777 == 0o600, name
    assert len((settings.keys_dir / "operator.key").read_bytes()) == 32


def test_certificate_is_believed_for_our_address_since_2000(settings):
    initialise(settings)
    server, client = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.create_default_context()
    server.load_cert_chain(settings.tls_dir / "server.pem", settings.tls_dir / "server.key")
    client.load_verify_locations(settings.tls_dir / "ca.pem")
    a_in, a_out, b_in, b_out = (ssl.MemoryBIO() for _ in range(4))
    ours = server.wrap_bio(a_in, a_out, server_side=True)
    theirs = client.wrap_bio(b_in, b_out, server_hostname="192.168.90.1")
    for _ in range(4):
        for side, incoming, peer_out in ((theirs, b_in, a_out), (ours, a_in, b_out)):
            incoming.write(peer_out.read())
            try:
                side.do_handshake()
            except ssl.SSLWantReadError:
                continue
    assert theirs.getpeercert()["notBefore"].endswith("2000 GMT")


def test_a_new_address_renews_the_server_certificate_only(settings):
    initialise(settings)
    ca = (settings.tls_dir / "ca.pem").read_bytes()
    moved = dataclasses.replace(settings, networks=(dataclasses.replace(NETWORK, server="192.168.90.2"),))
    assert initialise(moved).made == [str(settings.tls_dir / "server.pem")]
    assert "192.168.90.2" in tls.server_names(settings.tls_dir)
    assert (settings.tls_dir / "ca.pem").read_bytes() == ca


def test_a_foreign_certificate_is_never_replaced(settings):
    initialise(settings)
    (settings.tls_dir / "ca.key").unlink()
    before = (settings.tls_dir / "server.pem").read_bytes()
    initialise(dataclasses.replace(settings, networks=()), addresses=["10.9.9.9"])
    assert (settings.tls_dir / "server.pem").read_bytes() == before


def test_signing_keys_verify_as_hex(settings):
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    initialise(settings)
    key = load_pem_private_key((settings.keys_dir / "image-signing.pem").read_bytes(), None)
    public = tls.public_hex(settings.keys_dir / "image-signing.pub")
    assert len(public) == 64
    Ed25519PublicKey.from_public_bytes(bytes.fromhex(public)).verify(key.sign(b"x"), b"x")


def test_unwritable_state_dir_says_what_to_do(settings, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(MachineError) as error:
        initialise(dataclasses.replace(settings, state_dir=tmp_path / "file" / "x"))
    assert error.value.fix


def ramdisk(tmp_path: Path) -> SimpleNamespace:
    directory = tmp_path / "image"
    directory.mkdir()
    (directory / "kernel").write_bytes(b"MZ kernel")
    (directory / "initrd").write_bytes(b"\x28\xb5\x2f\xfd zstd")
    return SimpleNamespace(id="sha256:" + "ab" * 32, dir=directory, properties={"arch": "x86_64"})


def test_composed_initrd_carries_the_anchors_in_front(tmp_path):
    image = ramdisk(tmp_path)
    (entry,), artifacts = anchors.compose_all([image], tmp_path / "out", b"CA", "aa" * 32)
    assert entry.kernel == "abababababab-vmlinuz"
    initrd = Path(artifacts[entry.initrd].path).read_bytes()
    front = initrd.removesuffix(b"\x28\xb5\x2f\xfd zstd")
    assert len(front) % 4 == 0
    assert len(initrd) == artifacts[entry.initrd].size
    (tmp_path / "x").mkdir()
    subprocess.run(["cpio", "-id", "--quiet"], input=front, cwd=tmp_path / "x", check=True)
    assert (tmp_path / "x/etc/baremetal/ca.pem").read_bytes() == b"CA"
    assert (tmp_path / "x/etc/baremetal/image-signing.pub").read_text() == "aa" * 32 + "\n"


def test_composing_again_writes_nothing_until_the_anchors_change(tmp_path):
    image, out = ramdisk(tmp_path), tmp_path / "out"
    (entry,), first = anchors.compose_all([image], out, b"CA", "aa" * 32)
    stamp = os.stat(first[entry.initrd].path).st_ino
    _, again = anchors.compose_all([image], out, b"CA", "aa" * 32)
    assert again == first
    assert os.stat(first[entry.initrd].path).st_ino == stamp
    _, other = anchors.compose_all([image], out, b"CB", "aa" * 32)
    assert other[entry.initrd].sha256 != first[entry.initrd].sha256


def test_damaged_note_is_made_again_and_stale_files_go(tmp_path):
    image, out = ramdisk(tmp_path), tmp_path / "out"
    (entry,), first = anchors.compose_all([image], out, b"CA", "aa" * 32)
    for damage in ("", "[]", json.dumps({"made_of": 1})):
        (out / f"{entry.initrd}.json").write_text(damage)
        assert anchors.compose_all([image], out, b"CA", "aa" * 32)[1] == first
    anchors.compose_all([], out, b"CA", "aa" * 32)
    assert list(out.iterdir()) == []


def test_the_first_configuration_says_which_addresses_are_given_out(tmp_path):
    from baremetal.config import Settings
    from baremetal.serve import initconf

    path = tmp_path / "baremetal.toml"
    initconf.write(path, interface="lo")
    assert 'range = "127.128.0.0-127.255.255.254"' in path.read_text()
    (network,) = Settings.load(path).networks
    assert (network.range_first, network.range_last) == ("127.128.0.0", "127.255.255.254")


def test_a_trial_keeps_everything_in_one_directory(tmp_path):
    from baremetal.config import Settings
    from baremetal.serve import initconf

    path = tmp_path / "site.toml"
    initconf.write(path, interface="lo", state_dir=tmp_path / "trial")
    settings = Settings.load(path)
    assert {settings.state_dir, settings.run_dir, settings.cache_dir} == {
        tmp_path / "trial" / name for name in ("state", "run", "cache")
    }
