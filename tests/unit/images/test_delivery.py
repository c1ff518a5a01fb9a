"""Copies of a built image where -o says: a place that refuses them is told, nothing half-made stays."""

from pathlib import Path

import pytest

from baremetal.cli.imagework import Classic, deliver
from baremetal.errors import MachineError
from baremetal.images.results import BuildResult


def built(directory: Path) -> BuildResult:
    file = directory / "web.qcow2"
    file.write_bytes(b"QFI\xfb" + bytes(1000))
    return BuildResult("web", "ab" * 12, "disk", file, directory, cached=False, files=[file])


def test_the_file_is_where_it_was_asked_for_with_its_digests(tmp_path: Path) -> None:
    (tmp_path / "made").mkdir()
    written = deliver(built(tmp_path / "made"), Classic(output=str(tmp_path / "out"), checksum=True))
    assert [path.name for path in written] == ["out.qcow2", "out.qcow2.md5", "out.qcow2.sha256"]
    assert (tmp_path / "out.qcow2").read_bytes() == (tmp_path / "made/web.qcow2").read_bytes()


def test_a_place_that_takes_no_file_is_told_with_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(MachineError, match="No such file") as error:
        deliver(built(tmp_path), Classic(output="/proc/x"))
    assert "cannot write /proc/x.qcow2" in error.value.brief
    assert "-o" in error.value.fix
