"""What the agent loads before its first word: each module costs the node time, and a few cost much."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
HEAVY = ("inspect", "ast", "dis", "tokenize", "traceback", "logging", "email", "asyncio", "random", "encodings.idna")
HEAVY += ("copy", "weakref", "base64", "selectors", "select")
LATE = ("baremetal.agents.duties", "baremetal.agents.installer", "baremetal.agents.cleaner", "baremetal.agents.orders")


def run(code: str) -> str:
    code = f"import baremetal.agents.__main__ as entry; entry.late(); import sys; {code}"
    return subprocess.run(
        [sys.executable, "-S", "-c", code], capture_output=True, text=True, check=True, cwd=ROOT
    ).stdout


@pytest.mark.parametrize("name", [*HEAVY, *LATE])
def test_nothing_heavy_before_the_first_word(name: str) -> None:
    said = run(
        "import baremetal.agents.ramdisk; m = sys.modules; print([n for n in m if type(m[n]).__name__ != 'Late'])"
    )
    assert "baremetal.agents.http" in said
    assert f"'{name}'" not in said


def test_a_late_module_is_the_real_one_when_it_is_wanted() -> None:
    said = run(
        "import dataclasses; before = 'ast' in sys.modules; made = dataclasses.make_dataclass('A', [('x', int)]); "
        "import inspect; print(before, made.__doc__, inspect.__file__)"
    )
    assert said.startswith("False A(x: int)")
    assert said.strip().endswith("inspect.py")


def test_what_was_put_off_works_when_it_is_wanted() -> None:
    """By `import x`, by `from x import y`, as a base class, and for whoever imported it before it was loaded."""
    said = run(
        "import socket, dataclasses, ssl; from copy import deepcopy; import base64, selectors; "
        "A = dataclasses.make_dataclass('A', [('x', list)]); a = A([1]); "
        "S = type('S', (selectors.SelectSelector,), {}); S().close(); "
        "pem = ssl.DER_cert_to_PEM_cert(b'der'); "
        "print(deepcopy([1]), dataclasses.asdict(a)['x'] is a.x, base64.b64encode(b'x'), pem.split()[2], "
        "bool(socket.selectors.DefaultSelector))"
    )
    assert said.split() == ["[1]", "False", "b'eA=='", "ZGVy", "True"]
