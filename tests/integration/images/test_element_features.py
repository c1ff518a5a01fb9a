"""What elements can say, and when a layer is made anew because of it. No network but loopback.

Needs root (namespaces, overlayfs), git, rsync and python3-yaml. The element
`features` uses package lists with conditions, pkg-map, svc-map, install types,
environment.d and more, and writes down what came of it; test_dib_oracle.py
builds it with the original too.
"""

from __future__ import annotations

import subprocess
import tarfile
from pathlib import Path

import pytest

from baremetal.images import builder, errors
from baremetal.images.classic import Call, definition

pytestmark = pytest.mark.integration
ELEMENTS = Path(__file__).parents[2] / "data/images/elements"
CALL = ("host-os", "features", "features-part")


def build(place: Path, *more: str, path: Path = ELEMENTS, **env: str) -> builder.BuildResult:
    call = Call((*CALL, *more), output="little", types=("tar",), packages=("extra-two", "extra-one"), skip_base=True)
    options = builder.Options(cache=place / "cache", elements_path=(path, ELEMENTS), offline=True, epoch="1735689600")
    return builder.build(definition(call, env), options)


def text(result: builder.BuildResult, name: str) -> list[str]:
    with tarfile.open(result.directory / "little.tar") as tar:
        file = tar.extractfile(f"./{name}")
        assert file is not None
        return file.read().decode().splitlines()


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("features")


@pytest.fixture(scope="module")
def built(place: Path) -> builder.BuildResult:
    return build(place, FEATURE_OF_THE_SHELL="hello")


def installed(result: builder.BuildResult) -> set[str]:
    return {line.split()[0] for line in text(result, "etc/installed")}


def test_package_lists_heed_phase_arch_type_condition_and_map(built: builder.BuildResult) -> None:
    wanted = "plain early late twice when-on when-both while-building from-source for-python-3 by-default by-family"
    wanted += " by-distro by-release json-plain json-late json-when extra-one extra-two"
    found = installed(built)
    assert {f"+{name}" for name in wanted.split()} <= found
    never = "only-arm not-amd64 when-off from-package for-python-2 taken-out wrong mapped-to-none"
    assert not {f"+{name}" for name in never.split()} & found
    assert {"-taken-out", "-while-building"} <= found
    lines = [line.split()[0] for line in text(built, "etc/installed")]
    assert lines.index("+early") < lines.index("+plain") < lines.index("-while-building") < lines.index("+late")


def test_scripts_run_in_order_and_the_default_install_type_is_source(built: builder.BuildResult) -> None:
    install = ["9-nine", "install.d/010-ten", "install.d/50-b", "install.d/50_under"]
    install += ["install.d/features-source-install/70-source", "install.d/100-hundred"]
    assert text(built, "etc/order") == ["pre-install.d/50-features", *install, "post-install.d/50-features"]


def test_environment_services_tools_and_variables_of_the_shell(built: builder.BuildResult) -> None:
    assert text(built, "etc/features") == [
        "order one two three",
        "services apache2 mysql",
        "tool tool 755",
        "arguments amd64 bookworm debian on hello",
        "by-release",
        "by-family",
    ]
    assert text(built, "etc/elements")[0].split()[:4] == ["dib-python", "features", "features-part", "host-os"]


def test_static_files_keep_mode_and_links(built: builder.BuildResult) -> None:
    with tarfile.open(built.directory / "little.tar") as tar:
        assert tar.getmember("./etc/features.d/link").linkname == "file"
        assert tar.getmember("./etc/features.d/deep/program").mode == 0o755


def test_what_scripts_leave_beside_the_image_is_kept(built: builder.BuildResult) -> None:
    assert (built.directory / "little.notes").read_text() == "left beside the image\n"
    assert (built.directory / "little.d/dib-manifests/dib_arguments").exists()
    assert any(path.name == "little.notes" for path in built.files)


def test_a_condition_of_a_package_list_is_part_of_the_key(place: Path, built: builder.BuildResult) -> None:
    off = build(place, FEATURE_OF_THE_SHELL="hello", DIB_FEATURE="off")
    assert not off.cached
    assert "+when-off" in installed(off)
    assert not {"+when-on", "+when-both"} & installed(off)


def test_an_install_type_is_part_of_the_key(place: Path, built: builder.BuildResult) -> None:
    other = build(place, FEATURE_OF_THE_SHELL="hello", DIB_INSTALLTYPE_features="package")
    assert "+from-package" in installed(other)
    assert "install.d/features-package-install/70-package" in text(other, "etc/order")


def test_an_unset_condition_is_told_with_its_variable(place: Path, tmp_path: Path) -> None:
    element(tmp_path, "asks", {"package-installs.yaml": "thing:\n  when: DIB_NOT_SET = 1\n"})
    with pytest.raises(errors.BuildFailed, match=r"extra-data\.d/99-squash-package-install failed") as caught:
        build(place, "asks", path=tmp_path)
    assert "DIB_NOT_SET" in caught.value.detail


def element(root: Path, name: str, files: dict[str, str]) -> None:
    for relative, body in files.items():
        path = root / name / relative
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(body)
        path.chmod(0o755 if ".d/" in relative else 0o644)


def commit(repository: Path, body: str) -> None:
    git = ["git", "-c", "user.name=n", "-c", "user.email=e@x", "-C", str(repository)]
    if not repository.exists():
        repository.mkdir()
        subprocess.run([*git, "init", "-q", "-b", "main"], check=True)
    (repository / "page").write_text(body)
    subprocess.run([*git, "add", "."], check=True)
    subprocess.run([*git, "commit", "-q", "-m", "a page"], check=True)


def test_a_new_commit_of_a_source_repository_is_taken(place: Path, tmp_path: Path) -> None:
    commit(tmp_path / "repo", "one\n")
    (tmp_path / "single").write_text("first\n")
    rows = f"site git /opt/site file://{tmp_path}/repo main\nsingle file /opt/single file://{tmp_path}/single\n"
    files = {"element-deps": "source-repositories\n", "source-repository-site": rows}
    element(tmp_path, "site", files)
    first = build(place, "site", path=tmp_path)
    assert text(first, "opt/site/page") == ["one"]
    assert build(place, "site", path=tmp_path).cached
    commit(tmp_path / "repo", "two\n")
    assert text(build(place, "site", path=tmp_path), "opt/site/page") == ["two"]
    (tmp_path / "single").write_text("second, longer\n")
    assert text(build(place, "site", path=tmp_path), "opt/single") == ["second, longer"]


def test_a_file_that_a_variable_names_is_part_of_the_key(place: Path, tmp_path: Path) -> None:
    element(tmp_path, "keys", {"extra-data.d/60-keys": '#!/bin/bash\ncp "$DIB_KEYS" "$TMP_MOUNT_PATH/etc/keys"\n'})
    keys = tmp_path / "authorized_keys"
    keys.write_text("one\n")
    build(place, "keys", path=tmp_path, DIB_KEYS=str(keys))
    keys.write_text("two\n")
    assert text(build(place, "keys", path=tmp_path, DIB_KEYS=str(keys)), "etc/keys") == ["two"]


LESS = {
    "extra-data.d/60-less": "cd $TMP_HOOKS_PATH; rm install.d/65-gone; rm -r old; mkdir old; echo new > old/new",
    "install.d/65-gone": "touch /etc/gone",
    "install.d/66-see": "ls /tmp/in_target.d/old > /etc/seen; [ ! -e /etc/gone ] || echo gone >> /etc/seen",
    "old/kept": "",
}


def test_a_hook_that_extra_data_takes_away_is_not_run(place: Path, tmp_path: Path) -> None:
    for name, body in LESS.items():
        path = tmp_path / "less" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"#!/bin/bash\nset -eu\n{body}\n")
        path.chmod(0o755)
    for _ in range(2):  # the second time the layer of extra-data is found, not made
        assert text(build(place, "less", path=tmp_path), "etc/seen") == ["new"]


def test_a_disk_made_by_scripts_is_left_to_the_original(place: Path, tmp_path: Path) -> None:
    element(tmp_path, "loops", {"block-device.d/10-loop": "#!/bin/bash\n"})
    with pytest.raises(errors.BadElement, match=r"loops: block-device\.d/10-loop") as caught:
        build(place, "loops", path=tmp_path)
    assert "--engine dib" in caught.value.fix
