"""The images we ship, built from the machine's Debian mirror. Needs root, mmdebstrap, and some minutes."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from baremetal.images import builder, catalog, errors, lockfile
from baremetal.images.definition import Definition, load, with_options

pytestmark = pytest.mark.images
MIB = 1 << 20
SLOW_S = 2400  # of a test that installs Debian more than once, beside other work


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A fresh cache; BAREMETAL_TEST_IMAGE_CACHE names one to keep between runs."""
    kept = os.environ.get("BAREMETAL_TEST_IMAGE_CACHE")
    return Path(kept) if kept else tmp_path_factory.mktemp("image-cache")


def build(name: str, cache: Path, **options: object) -> builder.BuildResult:
    definition = with_options(catalog.find(name), {})
    return builder.build(definition, builder.Options(cache=cache, **options))  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def demo(cache: Path) -> builder.BuildResult:
    return build("demo", cache)


def names(result: builder.BuildResult) -> set[str]:
    return {package["name"] for package in json.loads((result.directory / "packages.json").read_text())}


def version(result: builder.BuildResult, name: str) -> str:
    packages = json.loads((result.directory / "packages.json").read_text())
    return str(next(package["version"] for package in packages if package["name"] == name))


def paths(result: builder.BuildResult) -> dict[str, str]:
    from baremetal.images import compare

    return compare.read_files(result.directory / "files.txt")


def test_demo_is_small_and_holds_what_it_should(demo: builder.BuildResult) -> None:
    info = json.loads(subprocess.run(["qemu-img", "info", "--output=json", str(demo.path)], capture_output=True).stdout)
    assert info["virtual-size"] <= 1280 * MIB
    assert info["format-specific"]["data"]["compression-type"] == "zstd"
    assert {"openssh-server", "python3", "systemd", "linux-image-cloud-amd64"} <= names(demo)


GONE = [  # what must not be in a golden image
    "/etc/ssh/ssh_host_ed25519_key",
    "/etc/ssh/ssh_host_rsa_key",
    "/var/lib/systemd/random-seed",
    "/etc/resolv.conf.ORIG",
    "/usr/sbin/policy-rc.d",
    "/sbin/start-stop-daemon.REAL",
    "/etc/apt/apt.conf.d/60img-build-proxy",
]


@pytest.mark.parametrize("path", GONE)
def test_no_trace_of_the_build_is_left(demo: builder.BuildResult, path: str) -> None:
    assert path not in paths(demo)


def test_identity_is_made_at_first_boot(demo: builder.BuildResult) -> None:
    assert paths(demo)["/etc/machine-id"].split()[2] == "0"
    assert "/etc/systemd/system/ssh-host-keys.service" in paths(demo)
    assert not [p for p in paths(demo) if p.startswith("/var/lib/apt/lists/") and "InRelease" in p]


def test_nothing_changed_nothing_built(demo: builder.BuildResult, cache: Path) -> None:
    again = build("demo", cache)
    assert again.cached
    assert again.id == demo.id


def test_a_changed_agent_does_not_install_packages_again(demo: builder.BuildResult, cache: Path) -> None:
    steps = {str(step["step"]): step for step in demo.steps}
    assert not [name for name in steps["packages"]["inputs"] if name.startswith("baremetal/")]  # type: ignore[attr-defined]


def test_the_deploy_ramdisk(cache: Path) -> None:
    ramdisk = build("deploy-ramdisk", cache)
    kernel, initrd = ramdisk.directory / "kernel", ramdisk.directory / "initrd"
    assert initrd.stat().st_size <= 35 * MIB
    assert kernel.stat().st_size + initrd.stat().st_size <= 50 * MIB
    assert "busybox-static" in names(ramdisk)


@pytest.mark.slow
@pytest.mark.timeout(SLOW_S)
def test_demo_is_the_same_bytes_in_another_place(demo: builder.BuildResult, tmp_path: Path) -> None:
    other = build("demo", tmp_path / "elsewhere")
    assert paths(other) == paths(demo)
    assert other.path.read_bytes() == demo.path.read_bytes()


@pytest.mark.slow
@pytest.mark.timeout(SLOW_S)
def test_the_full_kernel_has_an_initial_ramdisk_and_real_drivers(tmp_path: Path, cache: Path) -> None:
    wanted = Definition("metal", ("debian-base", "generic-kernel", "one-initrd"), kind="tree")
    found = paths(builder.build(wanted, builder.Options(cache=cache)))
    kernels = [path for path in found if re.fullmatch(r"/boot/vmlinuz-.*-amd64", path)]
    assert len(kernels) == 1
    assert f"/boot/initrd.img-{kernels[0].removeprefix('/boot/vmlinuz-')}" in found
    modules = {Path(path).name.removesuffix(".xz") for path in found if "/kernel/drivers/" in path}
    assert {"ahci.ko", "megaraid_sas.ko", "ixgbe.ko", "nvme.ko"} <= modules


@pytest.mark.slow
@pytest.mark.timeout(SLOW_S)
def test_locked_twice_is_the_same_and_a_version_that_is_gone_is_named(tmp_path: Path) -> None:
    path = tmp_path / "locked.toml"
    path.write_text('elements = ["debian-base"]\nkind = "tree"\nformats = ["tar"]\n')
    first = builder.build(load(path), builder.Options(cache=tmp_path / "a"))
    lock = lockfile.write(load(path), tmp_path / "a")
    rows = [line.split() for line in lock.read_text().splitlines()[2:]]
    assert len(rows) > 80
    assert all(len(row) == 4 and len(row[3]) == 64 for row in rows)
    one = builder.build(load(path), builder.Options(cache=tmp_path / "b"))
    other = builder.build(load(path), builder.Options(cache=tmp_path / "c"))
    assert one.path.read_bytes() == other.path.read_bytes()
    assert names(one) == names(first)
    lock.write_text(lock.read_text().replace(f"dash {version(first, 'dash')}", "dash 0.1-gone"))
    with pytest.raises(errors.BuildFailed) as caught:
        builder.build(load(path), builder.Options(cache=tmp_path / "a"))
    assert "dash" in f"{caught.value.brief} {caught.value.detail}"


@pytest.mark.slow
@pytest.mark.timeout(SLOW_S)
def test_unmodified_elements_of_diskimage_builder(tmp_path: Path, cache: Path) -> None:
    from baremetal.images.classic import Call, definition

    call = Call(("debian-minimal", "vm", "block-device-gpt"), output="theirs", skip_base=True)
    built = builder.build(definition(call, {"DIB_RELEASE": "bookworm"}), builder.Options(cache=cache))
    assert {"systemd-sysv", "sudo", "gnupg2"} <= names(built)
    assert "/boot/grub/grub.cfg" in paths(built) or shutil.which("grub-mkimage") is None
