"""The same random input to ours and to the original os-apply-config (ring peers).

BAREMETAL_PEER_ORIGINALS names the bin directory of a virtual environment that
has it; BAREMETAL_PEER_CASES how many cases of each kind (2,000).
"""

import io
import json
import os
import random
import subprocess
from contextlib import redirect_stderr
from pathlib import Path

import pytest

from baremetal.agents.apply import metadata, mustache, values
from baremetal.agents.apply.errors import ApplyError

pytestmark = pytest.mark.peers
CASES = int(os.environ.get("BAREMETAL_PEER_CASES", "2000"))
KEYS = ["a", "b", "c", "a.b", "d e", "f::g", "0", "x-y", "é"]
NAMES = [*KEYS, ".", "a.b.c", "b.a", "missing", "a.0", "c.a"]
TEXTS = ["", "x", "0", "false", "<&>", "é\u2028", "{{a}}", "l1\nl2", " s ", "\t"]
TYPES = ["default", "int", "netaddress", "netdevice", "dsn", "username", "raw", "swiftdevices", "nosuch"]
LIKELY = [
    "mysql://u:p@h:3306/db?a=b",
    "mysql+pymysql://u:p@h/db",
    "mongodb://h1:1,h2:2/db",
    "postgresql://u@h/db?x=1&y=2",
    "123",
    "eth0.1",
    "192.168.0.1/24",
    "fe80::1%eth0",
    "user_name-1",
    "r1z1-192.168.2.22:%PORT%/d1,r1z1-fe80::1:%PORT%/d2",
    "",
]
LETTERS = "abzAZ09_-./: %,\n@+?=&[]é$\x00"


class Original:
    """The reference process."""

    def __init__(self):
        originals = os.environ.get("BAREMETAL_PEER_ORIGINALS")
        assert originals, "set BAREMETAL_PEER_ORIGINALS to a bin directory with os-apply-config"
        script = Path(__file__).with_name("originals_reference.py")
        env = {"PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8"}
        pipe = subprocess.PIPE
        self.process = subprocess.Popen([f"{originals}/python", script], stdin=pipe, stdout=pipe, text=True, env=env)

    def ask(self, **case):
        self.process.stdin.write(json.dumps(case) + "\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())


@pytest.fixture(scope="module")
def original():
    found = Original()
    yield found
    found.process.stdin.close()
    found.process.stdout.close()
    found.process.wait()


def value(r, depth=0):
    kind = r.randrange(14 if depth < 3 else 9)
    if kind >= 9:
        if r.random() < 0.5:
            return [value(r, depth + 1) for _ in range(r.randrange(1, 4))]
        return {r.choice(KEYS): value(r, depth + 1) for _ in range(r.randrange(1, 4))}
    numbers = [0, 1, -3, 12345678901234567890, 0.0, 1.5, -2.25e30, 1e-9]
    return [None, True, False, r.choice(numbers), r.choice(TEXTS), r.choice(TEXTS), r.choice(TEXTS), [], {}][kind]


def document(r):
    return {r.choice(KEYS): value(r) for _ in range(r.randrange(5))}


def template(r, depth=0):
    return "".join(piece(r, depth) for _ in range(r.randrange(1, 6)))


def piece(r, depth):
    kind, name = r.randrange(16), r.choice(NAMES)
    gap, end = r.choice(["", "", " ", "  ", "\t"]), r.choice(["", "\n", " \n", "\r\n"])
    if kind < 5:
        return ["{{%s}}", "{{ %s }}", "{{{%s}}}", "{{&%s}}", "{{& %s}}"][kind] % name
    if kind < 9 and depth < 3:
        inside = template(r, depth + 1)
        return (
            f"{r.choice(['', '  '])}{{{{{r.choice('#^')}{gap}{name}{gap}}}}}{end}{inside}{gap}{{{{/{gap}{name}}}}}{end}"
        )
    fixed = ["{{!c}}", "{{! c\nd }}\n", "{{=<% %>=}}<%a%> {{x}} <%={{ }}=%>", "{{> nothing }}\n", "{", "}}", "&amp;"]
    return r.choice([*fixed, "{ {", "text", "\n", "\n\n", " ", "\r\n", "é", "key = ", "\\"])


def test_mustache(original):
    r = random.Random(1)
    for _ in range(CASES):
        text, given = template(r), document(r)
        theirs = original.ask(kind="mustache", template=text, values=given)
        try:
            ours = {"ok": mustache.render(mustache.parse(text), given)}
        except mustache.MustacheError as exc:
            if "never closed" in str(exc):
                continue  # the original loses what is before it
            ours = {"error": str(exc)}
        assert ours.get("ok") == theirs.get("ok"), (text, given)


def test_types(original):
    r = random.Random(2)
    for _ in range(CASES):
        text = list(r.choice(LIKELY))
        for _ in range(r.randrange(3)):
            text.insert(r.randrange(len(text) + 1), r.choice(LETTERS))
        text, kind = "".join(text), r.choice(TYPES)
        theirs = original.ask(kind="typed", text=text, type=kind)
        try:
            values.check(text, kind, "k")
            ours = True
        except ApplyError:
            ours = False
        assert ours is ("ok" in theirs) or text.endswith("\n"), (kind, text)


def test_merge_and_key(original, tmp_path):
    r = random.Random(3)
    for _ in range(CASES // 4):
        documents = [document(r) if r.random() < 0.9 else value(r) for _ in range(r.randrange(1, 4))]
        key = ".".join(r.choice(["a", "b", "c", "0", "1", "-1", "x-y", "2"]) for _ in range(r.randrange(1, 4)))
        theirs = original.ask(kind="merged", documents=documents, key=key)
        paths = []
        for number, content in enumerate(documents):
            paths.append(tmp_path / f"{number}.json")
            paths[-1].write_text(json.dumps(content))
        with redirect_stderr(io.StringIO()):
            merged = metadata.load(map(str, paths)).values
        assert json.dumps(merged) == json.dumps(theirs["ok"][0]), documents
        found = values.find(merged, key)
        printed = "(none)" if found is None else values.printed(found) + "\n"
        assert printed == theirs["ok"][1], (key, documents)
