"""Jinja2 templates (`*.j2`): sandboxed, and a missing key is an error.

Imported only when a tree has one. Values are JSON; filters added: `json` (as
to_json elsewhere). Templates cannot read files, import or call into Python, and
multiplications that would eat the memory are refused.
"""

from __future__ import annotations

import json
from typing import Any, Dict, FrozenSet, NamedTuple

import jinja2
import jinja2.meta
import jinja2.sandbox

from baremetal.agents.apply.errors import TemplateProblem
from baremetal.agents.apply.mustache import MAX_OUTPUT

SUFFIX = ".j2"
MAX_INTEGER_BITS = 4096


class JinjaError(TemplateProblem):
    """A template that does not parse or render."""


class _Environment(jinja2.sandbox.ImmutableSandboxedEnvironment):
    intercepted_binops = frozenset(["*", "**", "<<", "%"])

    def call_binop(self, context: jinja2.runtime.Context, operator: str, left: Any, right: Any) -> Any:
        if operator == "**" and _power_bits(left, right) > MAX_INTEGER_BITS:
            raise jinja2.TemplateRuntimeError("the power is too large")
        if operator == "*" and _product_size(left, right) > MAX_OUTPUT:
            raise jinja2.TemplateRuntimeError("the product is too large")
        return super().call_binop(context, operator, left, right)


def _power_bits(left: Any, right: Any) -> float:
    if not isinstance(left, int) or not isinstance(right, int):
        return 0
    return left.bit_length() * max(right, 0)


def _product_size(left: Any, right: Any) -> int:
    for one, other in ((left, right), (right, left)):
        if isinstance(one, (str, list, tuple)) and isinstance(other, int):
            return len(one) * max(other, 0)
    if isinstance(left, int) and isinstance(right, int):
        return (left.bit_length() + right.bit_length()) // 8
    return 0


def _new_environment() -> jinja2.Environment:
    environment = _Environment(undefined=jinja2.StrictUndefined, keep_trailing_newline=True, autoescape=False)
    environment.filters["json"] = lambda value, **options: json.dumps(value, **options)
    environment.policies["json.dumps_kwargs"] = {"sort_keys": False}
    return environment


_environment = _new_environment()


class Parsed(NamedTuple):
    """A compiled template, and the keys of the root document it may look at."""

    template: jinja2.Template
    roots: FrozenSet[str]


def parse(text: str) -> Parsed:
    try:
        roots = jinja2.meta.find_undeclared_variables(_environment.parse(text))
        return Parsed(_environment.from_string(text), frozenset(roots))
    except jinja2.TemplateSyntaxError as exc:
        raise JinjaError(exc.lineno, exc.message or "syntax error") from exc


def render(parsed: Parsed, values: Dict[str, Any]) -> str:
    """Every error of the template is a JinjaError, with its line."""
    parts = []
    size = 0
    try:
        for part in parsed.template.generate(values):
            parts.append(part)
            size += len(part)
            if size > MAX_OUTPUT:
                raise JinjaError(0, f"the result is longer than {MAX_OUTPUT} characters")
    except (jinja2.TemplateError, TypeError, ValueError, ArithmeticError, LookupError, AttributeError) as exc:
        raise JinjaError(_line(exc), str(exc)) from exc
    return "".join(parts)


def _line(exc: BaseException) -> int:
    """The innermost line of the template itself: Jinja2 puts template frames into the traceback."""
    line = 0
    traceback = exc.__traceback__
    while traceback is not None:
        if traceback.tb_frame.f_code.co_filename == "<template>":
            line = traceback.tb_lineno
        traceback = traceback.tb_next
    return line
