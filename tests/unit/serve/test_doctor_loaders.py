"""What doctor advises about a loader that is not there."""

from __future__ import annotations

from pathlib import Path

import pytest

from baremetal.boot.loaders import LoaderTable
from baremetal.config import Settings
from baremetal.serve import doctor
from baremetal.serve import loaders as served

TABLE = """
["one.kpxe"]
role = "ipxe"
arch = "bios"
package = "ipxe"
path = "{here}/one.kpxe"
["arm.efi"]
role = "ipxe"
arch = "uefi-arm64"
package = "{package}"
path = "/nowhere/arm.efi"
"""
ADVICE = [  # the package of the missing one, what helps
    ("ipxe", "this release's package ipxe has none: put the file at /nowhere/arm.efi"),
    ("ipxe-arm", "apt install ipxe-arm"),
]


@pytest.mark.parametrize(("package", "helps"), ADVICE)
def test_a_package_that_is_installed_is_not_advised(
    package: str, helps: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "one.kpxe").write_bytes(b"x")
    table = LoaderTable.parse(TABLE.format(here=tmp_path, package=package))
    monkeypatch.setattr(served, "read_loaders", lambda: table)
    one, arm = doctor.loaders(Settings())
    assert (one.verdict, arm.verdict) == (doctor.PASS, doctor.SKIP)
    assert arm.fix == helps
