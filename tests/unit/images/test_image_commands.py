"""`baremetal image` and `baremetal element` as they are typed."""

from __future__ import annotations

import json
import struct
from pathlib import Path

import pytest
from typer.testing import CliRunner

from baremetal.cli import element, image
from baremetal.errors import BaremetalError
from baremetal.images.errors import BadImage, ElementNotFound, ImageNotFound

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
