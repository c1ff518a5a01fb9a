"""Resolving elements, merging hooks, and what a layer's key takes notice of."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from baremetal.images import keys, lint, plan, sources
from baremetal.images.elements import (
    Element,
    available,
    default_release,
    merge_hooks,
    resolve,
    search_path,
    with_defaults,
)
from baremetal.images.environment import ambient
from baremetal.images.errors import BadElement, ElementNotFound
from baremetal.paths import share_dir


def element(root: Path, name: str, files: dict[str, str]) -> None:
    for path, text in files.items():
        target = root / name / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text)
        if target.parent.name.endswith(".d") and target.parent.name != "environment.d":
            target.chmod(0o755)


@pytest.fixture
def here(tmp_path: Path) -> Path:
    element(tmp_path, "os", {"element-provides": "operating-system\n", "root.d/10-os": "#!/bin/sh\n"})
    element(tmp_path, "web", {"element-deps": "tools\n", "install.d/50-web": "#!/bin/sh\ncat $0/../web/page\n"})
    element(tmp_path, "tools", {"bin/helper": "x", "install.d/40-tools": "#!/bin/sh\necho $DIB_TOOL\n"})
    element(tmp_path, "web", {"web/page": "hi"})
    return tmp_path


def names(found: list) -> list[str]:  # type: ignore[type-arg]
    return [e.name for e in found]


def test_dependencies_come_along_sorted(here: Path) -> None:
    assert names(resolve(["web", "os"], [here])) == ["os", "tools", "web"]


def test_a_missing_element_is_named_with_who_wants_it_and_where_it_was_sought(here: Path) -> None:
    element(here, "app", {"element-deps": "nowhere\n"})
    with pytest.raises(ElementNotFound) as caught:
        resolve(["app", "os"], [here])
    assert caught.value.brief == "element 'nowhere' not found (needed by app)"
    assert str(here) in caught.value.detail


def test_a_misspelt_element_gets_the_nearest_name(here: Path) -> None:
    with pytest.raises(ElementNotFound) as caught:
        resolve(["wep", "os"], [here])
    assert "did you mean web?" in caught.value.fix


@pytest.mark.parametrize("name", ["../os", "a/b", "", "-x", "a b", ".hidden", "$(id)", "os\n"])
def test_hostile_names_are_refused(here: Path, name: str) -> None:
    with pytest.raises((BadElement, ElementNotFound)):
        resolve([name, "os"], [here])


CIRCLES = [  # element -> what it needs, the circle that is told
    ({"a": "b", "b": "a"}, "a -> b -> a"),
    ({"a": "a"}, "a -> a"),
    ({"a": "b", "b": "c d", "c": "e", "d": "b", "e": ""}, "b -> d -> b"),
]


@pytest.mark.parametrize(("needs", "told"), CIRCLES)
def test_a_circle_is_told(here: Path, needs: dict[str, str], told: str) -> None:
    for name, words in needs.items():
        element(here, name, {"element-deps": words.replace(" ", "\n") + "\n"})
    with pytest.raises(BadElement, match=f"circle: {told}"):
        resolve(["a", "os"], [here])


def test_two_ways_to_one_element_are_no_circle(here: Path) -> None:
    element(here, "a", {"element-deps": "b\nc\n"})
    element(here, "b", {"element-deps": "d\n"})
    element(here, "c", {"element-deps": "d\n"})
    element(here, "d", {"README.md": "d\n"})
    assert names(resolve(["a", "os"], [here])) == ["a", "b", "c", "d", "os"]


def test_two_operating_systems_are_refused(here: Path) -> None:
    element(here, "os2", {"element-provides": "operating-system\n"})
    with pytest.raises(BadElement, match="provide the same"):
        resolve(["os", "os2"], [here])


def test_no_operating_system_is_refused(here: Path) -> None:
    with pytest.raises(BadElement, match="no operating system"):
        resolve(["web"], [here])


def test_the_first_directory_wins(here: Path, tmp_path: Path) -> None:
    mine = tmp_path / "mine"
    element(mine, "tools", {"install.d/40-tools": "#!/bin/sh\n"})
    assert available([mine, here])["tools"] == mine / "tools"


def test_same_named_hooks_of_two_elements_collide_by_name(here: Path, tmp_path: Path) -> None:
    element(here, "tools", {"install.d/50-web": "#!/bin/sh\n"})
    with pytest.raises(BadElement, match=r"install.d/50-web is in two elements: tools and web"):
        merge_hooks(resolve(["web", "os"], [here]), tmp_path / "hooks")


def test_what_would_be_read_for_ever_is_refused_and_a_masked_unit_is_not(tmp_path: Path) -> None:
    place = tmp_path / "e" / "odd"
    for name in ("static/etc", "hooks.d"):
        (place / name).mkdir(parents=True)
        (place / name / "masked").symlink_to("/dev/null")
        (place / name / "endless").symlink_to("/dev/zero")
    merge_hooks([Element("odd", place)], tmp_path / "hooks")
    assert keys.element_inputs([("odd", place)]).parts
    for name in ("static/etc", "hooks.d"):
        assert (tmp_path / "hooks" / name / "endless").readlink() == Path("/dev/zero")
    os.mkfifo(place / "static/etc/pipe")
    with pytest.raises(BadElement, match="odd: static/etc/pipe is neither file nor directory"):
        merge_hooks([Element("odd", place)], tmp_path / "hooks2")


def test_scripts_run_in_dib_run_parts_order(tmp_path: Path) -> None:
    for name in ("9-nine", "10-ten", "010-o", "a", "05-x", "10-b.sh", "10-not-executable"):
        path = tmp_path / "install.d" / name
        path.parent.mkdir(exist_ok=True)
        path.write_text("")
        path.chmod(0o644 if "not" in name else 0o755)
    assert keys.scripts_of(tmp_path, "install") == ["a", "05-x", "9-nine", "010-o", "10-ten"]


def key(hooks: Path, scripts: tuple[str, ...] = ("40-tools", "50-web"), **env: str) -> str:
    return keys.phase_inputs(hooks, "install", scripts, env, owns_rest=True).key()


@pytest.fixture
def hooks(here: Path, tmp_path: Path) -> Path:
    target = tmp_path / "hooks"
    merge_hooks(resolve(["web", "os"], [here]), target)
    return target


def edit(path: Path, text: str) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)


NOTICED = [  # what is edited                    the key changes
    ("install.d/50-web", "#!/bin/sh\ntrue\n", True),
    ("web/page", "other", True),
    ("bin/helper", "y", True),
    ("environment.d/10-x.bash", "export DIB_TOOL=hammer\n", True),
    ("environment.d/10-x.bash", "export DIB_ELSE=1\n", False),
    ("environment.d/10-x.bash", "# DIB_TOOL, web\nexport DIB_ELSE=1\n", False),
    ("environment.d/10-x.bash", "if [ -f /x ]; then export DIB_ELSE=1; fi\n", True),
    ("post-install.d/50-x", "#!/bin/sh\n", False),
    ("unrelated/file", "z", False),
    ("package-installs.yaml", "vim:\n", False),
]


@pytest.mark.parametrize(("path", "text", "changes"), NOTICED)
def test_what_a_layer_takes_notice_of(hooks: Path, path: str, text: str, changes: bool) -> None:
    before = key(hooks)
    edit(hooks / path, text)
    assert (key(hooks) != before) is changes


def test_programs_for_the_ramdisk_count_where_they_are_carved_in(hooks: Path) -> None:
    """ramdisk-steps.d ends as a phase's directory does, and is none: a new step was left out of a cached ramdisk."""
    edit(hooks / "install.d/50-web", "#!/bin/sh\ncp /tmp/in_target.d/ramdisk-steps.d/* /steps/\n")
    before = key(hooks)
    edit(hooks / "ramdisk-steps.d/nic-firmware", "#!/bin/sh\n")
    assert key(hooks) != before


def test_only_variables_that_are_named_count(hooks: Path) -> None:
    assert key(hooks, DIB_TOOL="a") != key(hooks, DIB_TOOL="b")
    assert key(hooks, DIB_OTHER="a") == key(hooks, DIB_OTHER="b")


def test_a_mode_change_counts(hooks: Path) -> None:
    before = key(hooks)
    (hooks / "bin/helper").chmod(0o755)
    assert key(hooks) != before


def test_what_changed_is_told_in_words() -> None:
    new = keys.Inputs({"a": "1", "b": "2"})
    assert new.changed_from({"a": "0", "c": "3"}) == ["changed: a", "new: b", "gone: c"]


def test_vm_alone_gets_a_block_device() -> None:
    assert with_defaults(["vm", "debian-base"], search_path())[-1].startswith("block-device-")
    assert "block-device-gpt" not in with_defaults(["vm", "block-device-mbr"], search_path())


def test_every_element_of_ours_passes_its_own_check() -> None:
    known = available(search_path())
    ours = [path.name for path in share_dir("elements").iterdir() if path.is_dir()]
    assert [str(p) for name in sorted(ours) for p in lint.check(name, known)] == []


LINT = [  # file, text, executable                     what is said
    ("install.d/10-a.sh", "#!/bin/sh\n", True, "skips this name"),
    ("install.d/10-a", "#!/bin/sh\n", False, "not executable"),
    ("install.d/10-a", "echo\n", True, "no #! line"),
    ("element-deps", "gone\n", False, "needs gone"),
    ("package-installs.yaml", "a: [", False, "cannot be parsed"),
    ("pkg-map", "[1]", False, "not a mapping"),
]


@pytest.mark.parametrize(("path", "text", "runs", "said"), LINT)
def test_element_check(tmp_path: Path, path: str, text: str, runs: bool, said: str) -> None:
    target = tmp_path / "x" / path
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(text)
    target.chmod(0o755 if runs else 0o644)
    (tmp_path / "x/README.md").write_text("# x\n\nA test.\n")
    found = lint.check("x", {"x": tmp_path / "x"})
    assert any(said in problem.what for problem in found), found


NAMED = [  # what a script says                  the variables it is taken to name
    ('echo "$DIB_TOOL"', {"DIB_TOOL"}),
    ('PREFIX="DIB_INSTALLTYPE_"', {"DIB_INSTALLTYPE_web"}),
    ("ref=DIB_REPOREF_${name}", {"DIB_REPOREF_site"}),
    ('os.environ.get("DIB_INSTALLTYPE_%s" % name)', {"DIB_INSTALLTYPE_web"}),
    ("DIB_ is how they begin", set()),
    ("MY_DIB_TOOL=1", set()),
]


@pytest.mark.parametrize(("text", "found"), NAMED)
def test_variables_are_named_by_word_or_by_how_they_begin(tmp_path: Path, text: str, found: set[str]) -> None:
    env = dict.fromkeys(("DIB_TOOL", "DIB_INSTALLTYPE_web", "DIB_REPOREF_site"), "x")
    element(tmp_path, "one", {"install.d/50-x": text})
    assert set(keys.named_in(env, [tmp_path / "one"])) == found


def test_what_a_shell_sets_for_itself_reaches_no_element() -> None:
    host = {"PWD": "/x", "LC_TIME": "C", "SSH_AUTH_SOCK": "/x", "HOME": "/x", "NODE_DIST": "debian", "DIB_A": "1"}
    assert ambient(host) == {"NODE_DIST": "debian", "DIB_A": "1"}


def test_helpers_count_for_the_first_layer_only_when_named(tmp_path: Path) -> None:
    element(
        tmp_path, "x", {"root.d/10-a": "#!/bin/sh\n$TMP_HOOKS_PATH/bin/fetch\n", "bin/fetch": "1", "bin/other": "1"}
    )
    before = keys.phase_inputs(tmp_path / "x", "root", ["10-a"], {}, owns_rest=True).parts
    assert "bin/fetch" in before
    assert "bin/other" not in before


SOURCES = [  # a row, the variables, what is taken: kind, location, ref
    ("site git /opt/site https://h/x main", {}, ("git", "https://h/x", "main")),
    ("site git /opt/site https://h/x", {}, ("git", "https://h/x", "master")),
    ("  site   git /opt/site $BASE/x ", {"BASE": "file:///r"}, ("git", "file:///r/x", "master")),
    ("site git /opt/site https://h/x main", {"DIB_REPOREF_site": "v2"}, ("git", "https://h/x", "v2")),
    ("a-b git /o https://h/x main", {"DIB_REPOLOCATION_a_b": "/r"}, ("git", "/r", "main")),
    ("site tar /opt/site file:///x.tgz .", {}, ("tar", "file:///x.tgz", ".")),
    ("site git /opt/site https://h/x", {"DIB_INSTALLTYPE_site": "package"}, None),
    ("site package", {}, None),
    ("# site git /opt/site https://h/x", {}, None),
    ("nonsense", {}, None),
]


@pytest.mark.parametrize(("row", "env", "taken"), SOURCES)
def test_rows_of_source_repositories(
    tmp_path: Path, row: str, env: dict[str, str], taken: tuple[str, str, str] | None
) -> None:
    (tmp_path / "source-repository-site").write_text(row + "\n")
    found = [(source.kind, source.location, source.ref) for source in sources.read(tmp_path, env)]
    assert found == ([taken] if taken else [])


RELEASES = [("debian-base", "bookworm"), ("debian-minimal", "stable"), ("growroot", "bookworm")]


@pytest.mark.parametrize(("name", "release"), RELEASES)
def test_the_release_an_element_takes_unasked(name: str, release: str) -> None:
    assert default_release([Element(name, available(search_path())[name])]) == release


CUTS = [  # scripts of install.d, those of the packages' layer
    (["00-early", "01-package-installs", "50-web"], ("00-early", "01-package-installs")),
    (["01-package-installs", "02-one-initrd", "50-web"], ("01-package-installs", "02-one-initrd")),
    (["01-package-installs", "02-a", "02-one-initrd"], ("01-package-installs",)),
    (["02-one-initrd", "50-web"], ()),
]


@pytest.mark.parametrize(("scripts", "first"), CUTS)
def test_packages_have_a_layer_of_their_own(tmp_path: Path, scripts: list[str], first: tuple[str, ...]) -> None:
    element(tmp_path, "one", {f"install.d/{name}": "#!/bin/sh\n" for name in scripts})
    steps = {step.name: step.scripts for step in plan.steps(tmp_path / "one")}
    assert steps.get("packages", ()) == first
    assert (*steps.get("packages", ()), *steps.get("install", ())) == tuple(scripts)
