"""Mustache as os-apply-config rendered it, and strict where that lost text.

Values that are not strings appear as JSON, nothing is escaped, null and
missing keys are empty. Unlike the original an unclosed section is an error
(it used to swallow everything before it), and partials are never read from the
working directory: a partial renders as nothing. Pure: text and values in,
text out.
"""

from __future__ import annotations

import json
import re
from typing import Any, FrozenSet, List, NamedTuple, Pattern, Tuple, Union

from baremetal.agents.apply.errors import TemplateProblem

VAR, SECTION, INVERTED = 0, 1, 2
MISSING: Any = object()
MAX_OUTPUT = 64 * 1024 * 1024  # characters of one rendered file


class MustacheError(TemplateProblem):
    """A template that does not parse, or a key it must have and has not."""


class Tag(NamedTuple):
    """A place to fill: a value, a section or an inverted section with its inside."""

    kind: int
    name: str
    parts: Tuple[str, ...]  # the name split at its dots; (".",) is the item itself
    line: int
    inside: "Template"


Template = List[Union[str, Tag]]


def parse(text: str) -> Template:
    """The template as text and tags; MustacheError names the line."""
    return _Parser(text).run()


def render(template: Template, root: Any, *, strict: bool = False) -> str:
    """Fill it. `strict`: a key that is missing or null is an error instead of nothing."""
    out: List[str] = []
    _Renderer(out, strict).fill(template, [root])
    return "".join(out)


def roots(template: Template) -> FrozenSet[str]:
    """Keys of the root document this template may look at: if none of them changed, neither did the result."""
    found = set()
    for part in template:
        if not isinstance(part, str):
            found.add(part.parts[0])
            found |= roots(part.inside)
    return frozenset(found)


def to_text(value: Any) -> str:
    """A value as it appears in a file: strings as they are, null as nothing, all else as JSON."""
    if isinstance(value, str):
        return value
    return "" if value is None else json.dumps(value)


# --- parsing ----------------------------------------------------------------


def _tag_pattern(opening: str, closing: str) -> Pattern[str]:
    """A tag from its opening delimiter on. The rules of precedence are pystache's."""
    return re.compile(
        rf"""{re.escape(opening)}\s*
        (?: (?P<change>=)\s*(?P<delims>.+?)\s*=
          | \{{\s*(?P<raw>.+?)\s*\}}
          | (?P<sort>[!>&/\#^]?)\s*(?P<name>[\s\S]+?)
        )\s*{re.escape(closing)}""",
        re.VERBOSE,
    )


_PATTERN = _tag_pattern("{{", "}}")


class _Parser:
    def __init__(self, text: str) -> None:
        self.text = text
        self.opening = "{{"
        self.pattern = _PATTERN
        self.at = 0  # where the text not yet taken begins
        self.line = 1
        self.counted = 0
        self.here: Template = []
        self.open_sections: List[Tuple[int, str, int, Template]] = []

    def run(self) -> Template:
        look = 0
        while True:
            found = self.text.find(self.opening, look)
            if found < 0:
                break
            match = self.pattern.match(self.text, found)
            if match is None:
                look = found + 1
                continue
            self._tag(found, match)
            look = self.at
        self._take(len(self.text))
        if self.open_sections:
            _, name, line, _ = self.open_sections[-1]
            raise MustacheError(line, f"section {{{{#{name}}}}} is never closed")
        return self.here

    def _tag(self, found: int, match: "re.Match[str]") -> None:
        sort, name = match["sort"] or "", match["name"]
        if match["change"]:
            sort, name = "=", match["delims"]
        elif match["raw"] is not None:
            sort, name = "&", match["raw"]
        end = match.end()
        if sort in ("", "&"):
            self._take(found)
        else:
            end = self._take_line(found, end)
        self.at = end
        line = self._line_of(found)
        if sort in ("", "&"):
            self.here.append(Tag(VAR, name, _parts(name), line, []))
        elif sort in ("#", "^"):
            self.open_sections.append((SECTION if sort == "#" else INVERTED, name, line, self.here))
            self.here = []
        elif sort == "/":
            self._close(name, line)
        elif sort == "=":
            self._delimiters(name, line)

    def _take(self, until: int) -> None:
        if until > self.at:
            self.here.append(self.text[self.at : until])

    def _take_line(self, found: int, end: int) -> int:
        """A tag alone on its line takes indentation and line break with it; gives the new end."""
        text = self.text
        start = found
        while start > self.at and text[start - 1] in " \t":
            start -= 1
        alone = (start == 0 or text[start - 1] in "\r\n") and (end == len(text) or text[end] in "\r\n")
        self._take(start if alone else found)
        if alone and text[end : end + 1] == "\r":
            end += 1
        if alone and text[end : end + 1] == "\n":
            end += 1
        return end

    def _close(self, name: str, line: int) -> None:
        if not self.open_sections:
            raise MustacheError(line, f"{{{{/{name}}}}} closes nothing")
        kind, opened, opened_line, outer = self.open_sections.pop()
        if opened != name:
            raise MustacheError(line, f"{{{{/{name}}}}} where {{{{/{opened}}}}} belongs (opened in line {opened_line})")
        outer.append(Tag(kind, name, _parts(name), opened_line, self.here))
        self.here = outer

    def _delimiters(self, text: str, line: int) -> None:
        pair = text.split()
        if len(pair) != 2:
            raise MustacheError(line, f"a delimiter change names two delimiters, not {text!r}")
        self.opening = pair[0]
        self.pattern = _tag_pattern(pair[0], pair[1])

    def _line_of(self, position: int) -> int:
        self.line += self.text.count("\n", self.counted, position)
        self.counted = position
        return self.line


def _parts(name: str) -> Tuple[str, ...]:
    return (".",) if name == "." else tuple(name.split("."))


# --- rendering --------------------------------------------------------------


class _Renderer:
    def __init__(self, out: List[str], strict: bool) -> None:
        self.out = out
        self.strict = strict
        self.size = 0

    def fill(self, template: Template, stack: List[Any]) -> None:
        for part in template:
            if isinstance(part, str):
                self._put(part)
            elif part.kind == VAR:
                value = look_up(part.parts, stack)
                if self.strict and (value is MISSING or value is None):
                    raise MustacheError(part.line, f"no value for {part.name!r}")
                if value is not MISSING:
                    self._put(to_text(value))
            elif part.kind == INVERTED:
                value = look_up(part.parts, stack)
                if value is MISSING or not value:
                    self.fill(part.inside, stack)
            else:
                self._section(part, stack)

    def _section(self, tag: Tag, stack: List[Any]) -> None:
        value = look_up(tag.parts, stack)
        if value is MISSING or not value:
            return
        for item in value if isinstance(value, list) else (value,):
            stack.append(item)
            self.fill(tag.inside, stack)
            stack.pop()

    def _put(self, text: str) -> None:
        self.size += len(text)
        if self.size > MAX_OUTPUT:
            raise MustacheError(1, f"the result is longer than {MAX_OUTPUT} characters")
        self.out.append(text)


def look_up(parts: Tuple[str, ...], stack: List[Any]) -> Any:
    """The first part from the innermost context outward, the rest only inside what that found."""
    if parts == (".",):
        return stack[-1]
    value: Any = MISSING
    for context in reversed(stack):
        if isinstance(context, dict) and parts[0] in context:
            value = context[parts[0]]
            break
    for part in parts[1:]:
        if not isinstance(value, dict) or part not in value:
            return MISSING
        value = value[part]
    return value
