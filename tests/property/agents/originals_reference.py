"""Runs in the originals' own environment: a case a line on stdin (JSON), what os-apply-config makes of it on stdout."""

import contextlib
import io
import json
import logging
import sys
import tempfile

from os_apply_config import apply_config, collect_config, value_types

logging.disable(logging.CRITICAL)


def mustache(case):
    return apply_config.render_moustache(case["template"], case["values"])


def typed(case):
    value_types.ensure_type(case["text"], case["type"])
    return True


def merged(case):
    """Documents as files, merged; the whole, and one value as --key prints it."""
    with tempfile.TemporaryDirectory() as directory:
        paths = []
        for number, document in enumerate(case["documents"]):
            paths.append(f"{directory}/{number}.json")
            with open(paths[-1], "w") as f:
                json.dump(document, f)
        whole = collect_config.collect_config(paths, None)
        out = io.StringIO()
        with contextlib.redirect_stdout(out):
            try:
                apply_config.print_key(paths, case["key"], "raw", None)
            except Exception:
                out.write("(none)")
        return [whole, out.getvalue()]


KINDS = {"mustache": mustache, "typed": typed, "merged": merged}
for line in sys.stdin:
    case = json.loads(line)
    try:
        answer = {"ok": KINDS[case["kind"]](case)}
    except Exception as exc:
        answer = {"error": f"{type(exc).__name__}: {exc}"[:200]}
    print(json.dumps(answer), flush=True)
