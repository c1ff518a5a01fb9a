"""Are a node's values what the site's and its role's JSON schema allow? (jsonschema, draft 2020-12 unless it says)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from baremetal.errors import UsageError

MAX_SCHEMA = 256 * 1024
MOST_ERRORS = 5


class Checker:
    """Schemas by (layer, name), compiled when first used."""

    def __init__(self, schemas: Mapping[tuple[str, str], Any]) -> None:
        self._schemas = schemas
        self._read: dict[tuple[str, str], Any] = {}

    def __bool__(self) -> bool:
        return bool(self._schemas)

    def concerning(self, role: str | None) -> list[tuple[str, str]]:
        """Which schemas a node of this role must fit."""
        wanted = [("site", "")] + ([("role", role)] if role is not None else [])
        return [place for place in wanted if place in self._schemas]

    def check(self, values: Any, places: list[tuple[str, str]], whose: str, *, partly: bool = False) -> None:
        """UsageError names what is wrong. partly: values that are still to come are not missed."""
        for place in places:
            if place not in self._read:
                self._read[place] = self.read(self._schemas[place])
            errors = [e for e in self._read[place].iter_errors(values) if not (partly and e.validator == "required")]
            if errors:
                errors.sort(key=lambda e: [str(part) for part in e.absolute_path])
                told = [_told(error) for error in errors[:MOST_ERRORS]]
                more = f" (and {len(errors) - MOST_ERRORS} more)" if errors[MOST_ERRORS:] else ""
                raise UsageError(
                    f"{whose}: {told[0]}{more}",
                    detail="\n".join(told[1:]),
                    fix=f"set what the {' '.join(filter(None, place))} schema allows: baremetal metadata schema show",
                )

    @staticmethod
    def read(schema: Any) -> Any:
        """A validator; UsageError when it is no schema, or would fetch one from elsewhere."""
        from jsonschema import exceptions, validators  # type: ignore[import-untyped]
        from referencing import Registry

        if not isinstance(schema, (dict, bool)) or len(repr(schema)) > MAX_SCHEMA:
            raise UsageError("a schema is a JSON object of at most 256 KiB")
        kind = validators.validator_for(schema, default=validators.validator_for({"$schema": DRAFT}))
        try:
            kind.check_schema(schema)
        except (exceptions.SchemaError, RecursionError) as exc:
            raise UsageError("that is no JSON schema", detail=getattr(exc, "message", str(exc))) from exc
        return _Bounded(kind(schema, registry=Registry()))


DRAFT = "https://json-schema.org/draft/2020-12/schema"


class _Bounded:
    """A validator whose references reach nothing outside the schema."""

    def __init__(self, validator: Any) -> None:
        self._validator = validator

    def iter_errors(self, values: Any) -> list[Any]:
        from referencing.exceptions import Unresolvable

        try:
            return list(self._validator.iter_errors(values))
        except (Unresolvable, RecursionError) as exc:
            raise UsageError(f"the schema refers to something it does not hold: {exc}") from exc
        except Exception as exc:  # jsonschema wraps what its reference library raises
            if "Unresolvable" not in type(exc).__name__ and "RefResolution" not in type(exc).__name__:
                raise
            raise UsageError(f"the schema refers to something it does not hold: {exc}") from exc


def _told(error: Any) -> str:
    """`web.port: 'eighty' is not of type 'integer'`; values are named only when they are short and no secret."""
    path = ".".join(str(part) for part in error.absolute_path) or "the document"
    message = str(error.message)
    if len(message) > 200 or _secret(path):
        message = f"does not fit: {error.validator} {str(error.validator_value)[:80]}"
    return f"{path}: {message}"


def _secret(path: str) -> bool:
    from baremetal.model.metadata import is_secret_name

    return any(is_secret_name(part) for part in path.split("."))
