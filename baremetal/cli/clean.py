"""Text of machines on a person's terminal: without what would make the terminal do something.

A machine names itself in its DMI, a BMC its sensors, a switch its port: any of
them may hold escape sequences that erase lines, set a title, fill the clipboard, or
have the terminal type an answer into the shell.
"""

from __future__ import annotations

import re
from typing import Any

HARMLESS = "\ufffd"
_HARM = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f]")  # all controls but tab and new line
# In JSON as it came: escaped, or C1 controls as UTF-8. Cheap to look for, so most answers are not walked.
_IN_JSON = re.compile(rb"\\u00(?:0|1|7[fF]|[89])|\\[bfr]|\x7f|\xc2[\x80-\x9f]")
# In a recorded console: colours may stay.
_BUT_COLOURS = re.compile("(\x1b\\[[0-9;]{0,20}m)|[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]")


def text(value: str) -> str:
    """The text, each control character as U+FFFD."""
    return _HARM.sub(HARMLESS, value)


def recorded(value: str) -> str:
    """What a serial console said: lines and colours, nothing that moves, asks or sets anything."""
    return _BUT_COLOURS.sub(lambda hit: hit[1] or "", value)


def document(raw: bytes, doc: Any) -> Any:
    """A JSON answer, its texts cleaned. `raw`: as it came."""
    return _all(doc) if _IN_JSON.search(raw) else doc


def _all(value: Any) -> Any:
    match value:
        case str():
            return text(value)
        case dict():
            return {text(k): _all(v) for k, v in value.items()}
        case list():
            return [_all(v) for v in value]
    return value
