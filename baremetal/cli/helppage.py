"""How help pages read: operators' words for types, whole sentences in lists of commands, `-h`.

Typer's own pages name Python types (`<list[str]>`), put brackets around brackets and cut the line about
a command in the middle. Where Typer is built differently, nothing changes.
"""

from __future__ import annotations

from typing import Any, get_args, get_origin

HELP_OPTIONS = {"help_option_names": ["-h", "--help"]}
TYPES = {"str": "TEXT", "int": "N", "float": "NUMBER", "Path": "FILE", "path": "FILE", "bool": "yes|no"}


def install() -> None:
    """Replaces how Typer words a parameter and a command; safe to call twice."""
    import typer.core as core

    parameter, argument = getattr(core, "_TyperParameter", None), core.TyperArgument
    shown = ("display_type" in vars(parameter or object), "_usage_display_name" in vars(argument))
    if all(shown) and not hasattr(parameter, "their_display_type"):
        parameter.their_display_type = parameter.display_type  # type: ignore[union-attr]
        parameter.display_type = _type  # type: ignore[union-attr]
        argument._usage_display_name = _in_usage  # type: ignore[method-assign]
        argument._rich_display_name = _in_list  # type: ignore[method-assign]
        argument.display_type_rich = _of_argument  # type: ignore[method-assign]
        argument.get_error_hint = _in_error  # type: ignore[method-assign]
    for kind in (core.TyperCommand, core.TyperGroup):
        kind.get_short_help_str = _sentence  # type: ignore[method-assign]
    core.TyperCommand.format_epilog = _examples  # type: ignore[method-assign]


def _type(self: Any, ctx: Any) -> str:
    """TEXT, N, FILE, or the choices."""
    if self.type_descriptor.is_choice:
        return str(self.their_display_type(ctx)).strip("<>").removeprefix("list[").removesuffix("]")
    annotation = self.type_descriptor.annotation
    if get_origin(annotation) is list:
        annotation = get_args(annotation)[0]
    name = getattr(annotation, "__name__", "")
    return TYPES.get(name) or str(self.their_display_type(ctx))


def _in_usage(self: Any) -> str:
    """NODE, [NODE], [NODE]..."""
    name = _bare(self)
    name = name if self.required or name.startswith("[") else f"[{name}]"
    return name + ("..." if self.nargs != 1 else "")


def _in_list(self: Any) -> str:
    return _bare(self)


def _in_error(self: Any) -> str:
    return f"'{_bare(self)}'"


def _bare(self: Any) -> str:
    """The argument's name as people write it: metavars here may have brackets of their own already."""
    if self.metavar is None:
        return str(self.name).upper().rstrip("_")
    name = str(self.metavar).removesuffix("...")
    return name if name.count("[") > 1 else name.removeprefix("[").removesuffix("]")


def _of_argument(self: Any, ctx: Any) -> str | None:
    """Only choices say more than the argument's name."""
    return _type(self, ctx) if self.type_descriptor.is_choice else None


def _sentence(self: Any, limit: int = 45) -> str:
    """The first sentence of the help, whole: a page wraps it."""
    text = (self.short_help or self.help or "").partition("\b")[0].strip().partition("\n\n")[0]
    words = " ".join(text.split())
    end = words.find(". ")
    return words if end < 0 else words[: end + 1]


def _examples(self: Any, ctx: Any, formatter: Any) -> None:
    """Examples at the end of the page, unless the help has its own."""
    from baremetal.cli import examples

    found = examples.EXAMPLES.get(ctx.command_path.partition(" ")[2], ())
    if found:
        with formatter.section("Examples"):
            for line in found:
                formatter.write(f"{'':>{formatter.current_indent}}{line}\n")
