"""schemathesis over the published OpenAPI document: no request it can think of makes the server fail."""

from __future__ import annotations

import json
import subprocess
import urllib.request
from pathlib import Path

import pytest

pytestmark = pytest.mark.integration


def test_no_generated_request_makes_the_server_fail(schemathesis: Path, server: str) -> None:
    words = ["--checks", "not_a_server_error", "--max-examples", "12", "--phases", "fuzzing"]
    words += ["--exclude-path", "/api/events/stream", "--seed", "20261121", "--no-color", "--max-failures", "5"]
    command = [schemathesis / "bin/schemathesis", "run", f"{server}/api/openapi.json", *words]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=480)
    assert done.returncode == 0, done.stdout[-6000:]


def test_every_operation_of_the_document_is_summarised_and_tagged(server: str) -> None:
    with urllib.request.urlopen(f"{server}/api/openapi.json", timeout=90) as answer:
        doc = json.load(answer)
    bare = [
        f"{method} {path}"
        for path, operations in doc["paths"].items()
        for method, operation in operations.items()
        if not operation.get("summary") or not operation.get("tags")
    ]
    assert not bare
