"""Random template trees installed by ours and by the original os-apply-config: the same files, modes, exit status.

Ring peers; BAREMETAL_PEER_ORIGINALS as in test_against_the_originals.py.
"""

import json
import os
import random
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.peers
REPO = Path(__file__).parents[3]
NAMES = ["a", "b.conf", ".hidden", "c~", "d.d/e", "d.d/f", "x y", "é", "g.oacx", "sub/deep/h"]
BODIES = [
    "{{k}}\n",
    "text\n",
    "",
    "{{#s}}{{.}},{{/s}}",
    "{{^no}}none{{/no}}",
    "{{bad",
    "{{/x}}",
    "\r\nwin\r\n",
    "{{o}}",
]
CONTROLS = [
    "mode: 0640\n",
    "mode: 0o600\n",
    "mode: 755\n",
    "mode: '0644'\n",
    "allow_empty: false\n",
    "allow_empty: no\nmode: 0600\n",
    "allow_empty: 'false'\n",
    "owner: root\ngroup: 0\n",
    "owner: nobody-at-all\n",
    "colour: red\n",
    "",
    "# nothing\n",
    "[1]\n",
    "mode: [",
    "mode: true\n",
    "mode: 0\n",
]
PROGRAMS = [
    "#!/bin/sh\necho out\n",
    "#!/bin/sh\ncat\n",
    "#!/bin/sh\nexit 3\n",
    "#!/nowhere\n",
    "#!/bin/sh\nprintf ''\n",
]
VALUES = {"k": "v", "s": ["1", "2"], "o": {"x": 1, "é": None}}
ROUNDS = int(os.environ.get("BAREMETAL_PEER_CASES", "400")) // 10


def plant(r, root):
    for name in r.sample(NAMES, r.randrange(1, 5)):
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if r.random() < 0.2:
            path.write_text(r.choice(PROGRAMS))
            path.chmod(0o755)
        else:
            path.write_bytes(r.choice(BODIES[:5] if r.random() < 0.85 else BODIES).encode())
            path.chmod(r.choice([0o644, 0o600, 0o640]))
        if r.random() < 0.4:
            Path(f"{path}.oac").write_text(r.choice(CONTROLS))
    if r.random() < 0.2:
        (root / "link").symlink_to("a")


def before(r, output):
    for name in r.sample(NAMES, 2):
        path = output / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("old\n")
        path.chmod(r.choice([0o600, 0o755, 0o644]))


def seen(output):
    found = {}
    for path in sorted(output.rglob("*")):
        if path.is_file():
            found[str(path.relative_to(output))] = (path.read_bytes(), oct(path.stat().st_mode & 0o7777))
    return found


@pytest.mark.parametrize("seed", range(ROUNDS))
def test_the_same_tree(tmp_path, seed):
    originals = os.environ.get("BAREMETAL_PEER_ORIGINALS")
    assert originals, "set BAREMETAL_PEER_ORIGINALS to a bin directory with os-apply-config"
    (tmp_path / "md.json").write_text(json.dumps(VALUES))
    plant(random.Random(seed), tmp_path / "t")
    results = []
    commands = {"theirs": [f"{originals}/os-apply-config"], "ours": [sys.executable, "-m", "baremetal.agents", "apply"]}
    for name, command in commands.items():
        output = tmp_path / name
        output.mkdir()
        before(random.Random(seed + 1000), output)
        words = ["-t", str(tmp_path / "t"), "-o", str(output), "-m", str(tmp_path / "md.json"), "--fallback-metadata"]
        env = {"PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8", "PYTHONPATH": str(REPO)} if name == "ours" else None
        done = subprocess.run([*command, *words], capture_output=True, text=True, env=env, cwd=tmp_path)
        results.append((done.returncode, seen(output), done.stderr))
    (status, theirs, said), (our_status, ours, we_said) = results
    # An unclosed section: the original loses text, we refuse.
    if "never closed" in we_said:
        return
    assert (our_status, ours) == (status, theirs), (said, we_said)
