"""Commands that share options: each is written with its own words, and the shared ones are joined to it."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import Any, get_type_hints

# Name, annotation as Typer takes it, default (inspect.Parameter.empty: it must be given).
Option = tuple[str, Any, Any]


def joined(
    function: Callable[..., None],
    shared: Callable[..., Any],
    *,
    before: Sequence[Option] = (),
    after: Sequence[Option] = (),
) -> Callable[..., None]:
    """A command that takes `before`, the own options of `function`, then `after`.

    It calls `function(shared(**before, **after), **own)`. An own option of the same name hides a shared one,
    which then has its default.
    """
    hints = get_type_hints(function, include_extras=True)
    own = list(inspect.signature(function).parameters.values())[1:]
    hidden = {one.name for one in own}
    defaults = {name: default for name, _, default in (*before, *after)}

    def parameters(options: Sequence[Option]) -> list[inspect.Parameter]:
        return [
            inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)
            for name, annotation, default in options
            if name not in hidden
        ]

    mine = [one.replace(kind=inspect.Parameter.KEYWORD_ONLY, annotation=hints[one.name]) for one in own]
    whole = [*parameters(before), *mine, *parameters(after)]

    def run(**given: Any) -> None:
        common = {name: given.pop(name) if name not in hidden else default for name, default in defaults.items()}
        function(shared(**common), **given)

    run.__doc__, run.__name__ = function.__doc__, function.__name__
    run.__annotations__ = {one.name: one.annotation for one in whole}
    vars(run)["__signature__"] = inspect.Signature(whole)
    return run
