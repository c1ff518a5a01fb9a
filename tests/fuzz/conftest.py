"""What the fuzzers share: inputs that reach new lines are kept and changed further.

The gate replays the corpus (tests/data/fuzz/<parser>/, one file an input, named by what it covers first) and mutates
it for a moment, each time in the same way. `BAREMETAL_FUZZ_S=600 pytest tests/fuzz/<room>` goes on for ten minutes a
parser and adds inputs that reach lines nothing in the corpus reached. BAREMETAL_FUZZ_SEED makes another walk.
"""

from __future__ import annotations

import hashlib
import os
import random
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import FrameType
from typing import Any, Protocol

import pytest

from baremetal.errors import BaremetalError

FOR_S = float(os.environ.get("BAREMETAL_FUZZ_S", "0.5"))
MOST = 10**9 if "BAREMETAL_FUZZ_S" in os.environ else 100  # a fast machine is to try no more than a slow one
LONGEST_S = 60.0  # one input: it hangs, or its cost has no bound
Parser = Callable[[bytes], None]
Mutate = Callable[[random.Random, bytes], bytes]


class Climb(Protocol):
    """Fuzz a parser from the corpus in `folder`; lines in files that begin with one of `watched` count."""

    def __call__(self, parser: Parser, folder: Path, watched: tuple[str, ...], mutate: Mutate) -> None: ...


@pytest.fixture(scope="session")
def climb() -> Climb:
    """The fuzzer."""
    return _climb


@pytest.fixture(scope="session")
def mutation() -> Callable[[Sequence[bytes], int], Mutate]:
    """Changes of bytes: mutation(interesting pieces, longest input)."""
    return _mutation


def _climb(parser: Parser, folder: Path, watched: tuple[str, ...], mutate: Mutate) -> None:
    corpus = [f.read_bytes() for f in sorted(folder.glob("*"))]
    assert corpus, f"{folder} is empty"
    known: set[tuple[str, int]] = set()
    for data in corpus:
        known |= lines_of(parser, data, watched)
    rnd, end = random.Random(os.environ.get("BAREMETAL_FUZZ_SEED", folder.name)), time.monotonic() + FOR_S
    for _ in range(MOST):
        if time.monotonic() > end:
            return
        data = mutate(rnd, rnd.choice(corpus))
        began = time.process_time()
        new = lines_of(parser, data, watched) - known
        assert time.process_time() - began < LONGEST_S, f"one input cost a minute: {data[:200]!r}"
        if new:
            known |= new
            corpus.append(data)
            if FOR_S > 5:
                where = min(new)
                digest = hashlib.sha256(data).hexdigest()[:8]
                (folder / f"{Path(where[0]).stem}-{where[1]}-{digest}").write_bytes(data)


def lines_of(parser: Parser, data: bytes, watched: tuple[str, ...]) -> set[tuple[str, int]]:
    """Which watched lines this input reaches; anything but a clean error is raised on."""
    hit: set[tuple[str, int]] = set()

    def trace(frame: FrameType, _event: str, _arg: Any) -> Any:
        if not frame.f_code.co_filename.startswith(watched):
            return None
        hit.add((frame.f_code.co_filename, frame.f_lineno))
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        parser(data)
    except BaremetalError:
        pass
    finally:
        sys.settrace(before)
    return hit


def _mutation(interesting: Sequence[bytes], longest: int) -> Mutate:
    def mutate(rnd: random.Random, data: bytes) -> bytes:
        raw = bytearray(data or b"\0")
        for _ in range(rnd.choice((1, 1, 2, 4, 16))):
            at = rnd.randrange(len(raw) + 1)
            match rnd.randrange(5):
                case 0 if at < len(raw):
                    raw[at] = rnd.choice((0, 1, 127, 128, 255, rnd.randrange(256)))
                case 1:
                    raw[at:at] = rnd.choice(interesting)
                case 2:
                    del raw[at : at + rnd.choice((1, 4, 100))]
                case 3:
                    raw[at:at] = raw[at : at + rnd.randrange(40)]
                case _:
                    raw[at:at] = rnd.randbytes(rnd.randrange(6))
        return bytes(raw[:longest])

    return mutate
