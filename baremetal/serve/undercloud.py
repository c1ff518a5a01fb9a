"""TripleO's undercloud.conf as a source of answers for `init`: its networks, and what of it has no place here."""

from __future__ import annotations

import configparser
import ipaddress
from pathlib import Path

from baremetal.errors import UsageError
from baremetal.serve.initconf import Answers

OF_ALL = ("local_interface", "local_ip", "local_subnet", "subnets", "undercloud_nameservers")
OF_A_SUBNET = ("cidr", "dhcp_start", "dhcp_end", "gateway")
CTLPLANE = "ctlplane-subnet"


def read(path: Path) -> str:
    """[[network]] tables: the ctlplane subnet on the local interface, the others behind DHCP relays."""
    parser = configparser.ConfigParser(interpolation=None, strict=False, default_section="\0")
    try:
        with path.open() as file:
            parser.read_file(file)
        return "".join(answers.toml() for answers in networks(parser)) + _rest(parser)
    except (OSError, configparser.Error, UnicodeDecodeError, ValueError, KeyError) as exc:
        raise UsageError(
            f"{path} cannot be read as undercloud.conf",
            detail=str(exc),
            fix="name the file that `openstack undercloud install` used",
        ) from exc


def networks(parser: configparser.ConfigParser) -> list[Answers]:
    """The local subnet first; relays send the others' requests to our address on it."""
    default = parser["DEFAULT"]
    local = default.get("local_subnet", CTLPLANE)
    address = ipaddress.IPv4Interface(default.get("local_ip", "192.168.24.1/24"))
    dns = tuple(n for n in _list(default.get("undercloud_nameservers", "")) if ":" not in n)
    found = []
    for name in dict.fromkeys([local, *_list(default.get("subnets", local))]):
        section = parser[name] if parser.has_section(name) else default
        if name != local and section is default:
            raise ValueError(f"subnets names {name}, but there is no section [{name}]")
        found.append(
            Answers(
                interface=default.get("local_interface", "eth1"),
                server=str(address.ip),
                cidr=section.get("cidr", str(address.network)),
                first=section.get("dhcp_start", "").split(",")[0].strip(),
                last=section.get("dhcp_end", "").split(",")[0].strip(),
                router=section.get("gateway", ""),
                dns=dns,
                name="" if name == local else name,
                relayed=name != local,
            )
        )
    return found


def _rest(parser: configparser.ConfigParser) -> str:
    """A comment that names what was not taken, so that nobody believes it was."""
    ours = {"DEFAULT": OF_ALL + OF_A_SUBNET}
    left = [
        key if section == "DEFAULT" else f"[{section}] {key}"
        for section in parser.sections()
        for key in parser[section]
        if key not in ours.get(section, OF_A_SUBNET)
    ]
    return f"\n# Of undercloud.conf this has no place here: {', '.join(left)}\n" if left else ""


def _list(text: str) -> list[str]:
    return [word.strip() for word in text.split(",") if word.strip()]
