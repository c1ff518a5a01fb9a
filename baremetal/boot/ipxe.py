"""Renders boot scripts (iPXE, GRUB) from templates handed to it. Reads no file.

No value may change what a script does. Every value that a template prints is
checked: control characters, `${…}` and command separators are refused, and a
value passed through `word` holds no blanks. Text for people goes through
`say`, which replaces what it must not print instead of failing.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping

import jinja2
from jinja2.sandbox import ImmutableSandboxedEnvironment

from baremetal.errors import BaremetalError
from baremetal.model.boot import BootRecord, Purpose

TEMPLATE_OF = {
    Purpose.RAMDISK: "ramdisk.ipxe.j2",
    Purpose.NETBOOT: "netboot.ipxe.j2",
    Purpose.DISK: "disk.ipxe.j2",
    Purpose.NONE: "none.ipxe.j2",
}
UNKNOWN_TEMPLATE = "unknown.ipxe.j2"
# iPXE ends a command at these words (core/exec.c command_terminators); "#" begins a comment there and in GRUB.
_SEPARATORS = frozenset(("||", "&&", ";"))
_PLAIN = re.compile(r"[ -~]*")
_SAYABLE = re.compile(r"[^A-Za-z0-9 .,:;()\[\]/_+=@%*?!'-]")


class ScriptError(BaremetalError):
    """A boot script cannot be rendered: a value would change it, or the template is wrong."""

    code = "boot-script"


class _Said(str):
    """Text already made harmless."""

    __slots__ = ()


def template_name(record: BootRecord | None) -> str:
    """File below pxe/templates/ for what this node boots; None: an unknown machine."""
    return UNKNOWN_TEMPLATE if record is None else TEMPLATE_OF[record.purpose]


def values_of(record: BootRecord, mac: str) -> dict[str, str]:
    """What a template may print of a node. The caller adds http, https, http_host, nonce, script_url."""
    return {
        "name": record.name,
        "because": record.because,
        "kernel": record.kernel or "",
        "initrd": record.initrd or "",
        "cmdline": record.cmdline,
        "mac": mac,
        "mac_hyphens": mac.replace(":", "-"),
    }


def render(template_text: str, record: BootRecord | None, values: Mapping[str, str]) -> str:
    """The script's text. `values` wins over what the record says."""
    known = values_of(record, record.macs[0]) if record is not None and record.macs else {}
    return render_values(template_text, {**known, **values})


def render_values(template_text: str, values: Mapping[str, str]) -> str:
    """Render with exactly these values; ScriptError instead of a script that does something else."""
    try:
        text = _compile(template_text).render(**values)
    except jinja2.UndefinedError as exc:
        raise ScriptError("boot script: the template prints something that has no value", detail=str(exc)) from None
    except (jinja2.TemplateError, TypeError, ValueError, ArithmeticError, LookupError) as exc:
        raise ScriptError("boot script: the template does not render", detail=f"{type(exc).__name__}: {exc}") from None
    return text if text.endswith("\n") else text + "\n"


def word(value: object) -> str:
    """One word: no blanks, not empty."""
    text = checked(value)
    if not text or " " in text:
        raise ScriptError(f"boot script: {text!r} should be one word")
    return text


def say(value: object) -> str:
    """Text for the screen; anything a shell could take for more becomes '?'."""
    return _Said(_SAYABLE.sub("?", str(value))[:200].replace("||", "??").replace(";", ","))


def checked(value: object) -> str:
    """A value as it stands, when no script can take it for anything but text."""
    if isinstance(value, _Said):
        return value
    text = str(value)
    if not _PLAIN.fullmatch(text):
        raise ScriptError(f"boot script: {text!r} holds control or non-ASCII characters")
    if "${" in text or "$(" in text or "`" in text:
        raise ScriptError(f"boot script: {text!r} would be expanded")
    for part in text.split():
        if part in _SEPARATORS or part.startswith("#"):
            raise ScriptError(f"boot script: {part!r} in {text!r} would end the command")
    return text


@functools.lru_cache(maxsize=32)
def _compile(text: str) -> jinja2.Template:
    return _environment().from_string(text)


@functools.cache
def _environment() -> ImmutableSandboxedEnvironment:
    # autoescape is for HTML; `finalize` checks every printed value instead.
    env = ImmutableSandboxedEnvironment(
        loader=jinja2.DictLoader({}),
        undefined=jinja2.StrictUndefined,
        finalize=checked,
        keep_trailing_newline=True,
        trim_blocks=True,
    )
    env.filters.clear()
    env.filters.update(word=word, say=say)
    env.globals.clear()
    return env
