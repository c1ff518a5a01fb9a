"""`baremetal image` and `baremetal element` as they are typed."""

from __future__ import annotations

import functools
import hashlib
import http.server
import json
import struct
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from baremetal.cli import element, image
from baremetal.cli import imagework as work
from baremetal.errors import BaremetalError
from baremetal.images.errors import BadImage, ElementNotFound, ImageInUse, ImageNotFound

runner = CliRunner()


@pytest.fixture(autouse=True)
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("STATE", "CACHE", "RUN"):
        monkeypatch.setenv(f"BAREMETAL_{name}_DIR", str(tmp_path / name.lower()))
    (tmp_path / "state").mkdir()
    monkeypatch.delenv("BAREMETAL_CONFIG", raising=False)
    monkeypatch.delenv("ELEMENTS_PATH", raising=False)
    return tmp_path


def run(app: object, *words: str) -> str:
    result = runner.invoke(app, list(words))  # type: ignore[arg-type]
    if isinstance(result.exception, BaremetalError):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result.stdout


def raw(path: Path) -> Path:
    path.write_bytes(bytes(440) + struct.pack("<I", 7) + bytes(66) + b"\x55\xaa" + bytes(1 << 20))
    return path


def test_an_image_from_add_to_delete(tmp_path: Path) -> None:
    added = json.loads(run(image.app, "add", str(raw(tmp_path / "web.raw")), "--property", "os=debian", "--json"))
    assert added["name"] == "web"
    assert added["properties"] == {"os": "debian"}
    run(image.app, "tag", "web", "stable")
    listed = json.loads(run(image.app, "list", "--json"))
    assert [(i["name"], i["tags"]) for i in listed["images"]] == [("web", ["stable"])]
    assert "demo" in listed["definitions"]
    assert json.loads(run(image.app, "verify", "stable", "--json"))["sound"] is True
    run(image.app, "export", "web", str(tmp_path / "back.raw"))
    assert (tmp_path / "back.raw").read_bytes() == (tmp_path / "web.raw").read_bytes()
    run(image.app, "delete", "web")
    with pytest.raises(ImageNotFound):
        run(image.app, "show", "web")


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        """Nothing."""


@pytest.fixture
def url(tmp_path: Path) -> Iterator[str]:
    """The directory of the test over HTTP on loopback."""
    handler = functools.partial(Quiet, directory=str(tmp_path))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()
        thread.join()


def test_an_image_from_a_url_is_held_to_its_digest(tmp_path: Path, url: str) -> None:
    digest = hashlib.sha256(raw(tmp_path / "far.raw").read_bytes()).hexdigest()
    added = json.loads(run(image.app, "add", f"{url}/far.raw", "--sha256", digest, "--json"))
    assert added["name"] == "far"
    with pytest.raises(BadImage, match="not the file that was named"):
        run(image.app, "add", f"{url}/far.raw", "--sha256", "0" * 64, "--name", "other")
    with pytest.raises(BaremetalError, match=r"nowhere\.raw: File not found"):
        run(image.app, "add", f"{url}/nowhere.raw", "--sha256", digest)
    assert [i["name"] for i in json.loads(run(image.app, "list", "--json"))["images"]] == ["far"]
    assert not list((tmp_path / "state/images").glob(".draft-*"))


def test_nothing_is_deleted_while_nobody_can_say_who_uses_it(tmp_path: Path) -> None:
    run(image.app, "add", str(raw(tmp_path / "web.raw")))
    (tmp_path / "state/baremetal.db").touch()  # a server has run here, and is down
    with pytest.raises(ImageInUse, match="the server does not answer") as caught:
        run(image.app, "delete", "web")
    assert "--force" in caught.value.fix
    run(image.app, "delete", "web", "--force")


OVER = [  # more words of a call, what is refused or heeded
    (["-a", "arm64"], "demo is for amd64, not arm64"),
    (["-t", "vhd"], "written by diskimage-builder only"),
    (["--image-size", "much"], "not a number of GB"),
    (["--qemu-img-options", "cluster_size=3000"], "cluster size"),
    (["--qemu-img-options", "preallocation=full"], "not known here"),
    (["--dib", "--mkfs-options=-x"], "means something to the original only"),
    (["--engine", "mkosi"], "no engine 'mkosi'"),
    (["--until", "lunch"], "no phase 'lunch'"),
    (["-O", "colour=red"], "no option 'colour'"),
    (["-E", "/no/such/place"], "--elements-path /no/such/place: no such directory"),
    (["--epoch", "yesterday"], "'yesterday' is no date"),
    (["--install-type", "wheel"], "--install-type 'wheel' is neither"),
    (["-p", "vim;reboot"], "'vim;reboot' is no name of a package"),
    (["--root-label", "a-label-longer-than-ext4"], "does not fit ext4"),
]


@pytest.mark.parametrize(("words", "said"), OVER, ids=[" ".join(row[0]) for row in OVER])
def test_what_a_build_cannot_heed_is_refused(words: list[str], said: str) -> None:
    with pytest.raises(BaremetalError, match=said):
        run(image.app, "build", "demo", "--offline", "--no-add", *words)


NAMES = ["..", ".", "/", "dir/...", "---"]


@pytest.mark.parametrize("output", NAMES)
def test_an_output_that_gives_no_name_is_refused(output: str) -> None:
    """The name becomes part of paths that are cleared before a build."""
    with pytest.raises(BaremetalError, match="no name for an image"):
        work.definition(["debian-base"], [], work.Classic(output=output))


def test_a_word_that_is_nothing_gets_the_definitions(tmp_path: Path) -> None:
    cache = ["--offline", "--no-add", "--cache-dir", str(tmp_path)]
    with pytest.raises(BaremetalError, match="'demos' is neither a definition nor an element") as caught:
        run(image.app, "build", "demos", *cache)
    assert "definitions: demo, deploy-ramdisk" in caught.value.detail
    assert caught.value.fix == "did you mean demo?"
    with pytest.raises(BaremetalError, match="element 'demo' not found") as caught:
        run(image.app, "plan", "demo", "serial-console", "--offline", "--cache-dir", str(tmp_path))
    assert "demo is a definition: it stands alone" in caught.value.fix


def test_a_definition_heeds_the_classic_options() -> None:
    asked = work.Classic(image_size="2", uncompressed=True, packages=["vim,less"], types="raw,raw.zst", root_label="r")
    found = work.definition(["demo"], [], asked)
    assert (found.disk.size_bytes, found.disk.compression, found.disk.root_label) == (2 << 30, "none", "r")
    assert found.formats == ("raw", "raw.zst")
    assert found.packages[-2:] == ("vim", "less")


def test_a_url_wants_a_digest() -> None:
    with pytest.raises(BaremetalError, match="needs --sha256"):
        run(image.app, "add", "https://example.org/x.qcow2")


def test_a_wrong_digest_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadImage):
        run(image.app, "add", str(raw(tmp_path / "web.raw")), "--sha256", "0" * 64)


def test_a_missing_element_of_a_classic_call_is_named() -> None:
    words = ("build", "-a", "amd64", "-o", "compute-image", "debian-base", "vm", "nova-compute", "--offline")
    with pytest.raises(ElementNotFound, match="'nova-compute' not found") as caught:
        run(image.app, *words)
    assert "looked in" in caught.value.detail


def test_a_plan_runs_nothing(site: Path) -> None:
    doc = json.loads(run(image.app, "plan", "demo", "--cache-dir", str(site / "cache"), "--json", "--offline"))
    assert [step["step"] for step in doc["steps"]][:4] == ["root", "extra-data", "pre-install", "packages"]
    assert doc["steps"][0]["why"] == "never built"
    assert not list((site / "cache/layers").iterdir())


def test_elements_are_listed_and_shown() -> None:
    rows = {row["element"]: row for row in json.loads(run(element.app, "list", "--json"))["elements"]}
    assert rows["debian-base"]["provides"] == ["operating-system"]
    assert "debian-minimal" in rows
    shown = json.loads(run(element.app, "show", "ssh", "--json"))
    assert shown["packages"] == ["openssh-server", "systemd-sysv"]
    with pytest.raises(ElementNotFound):
        run(element.app, "show", "sshd-nowhere")
