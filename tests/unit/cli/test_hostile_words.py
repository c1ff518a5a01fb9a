"""What a machine calls itself is shown, and makes the operator's terminal do nothing."""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest

from baremetal.cli import clean, render
from baremetal.cli.client import Client
from baremetal.cli.failure import show
from baremetal.errors import BaremetalError

EVIL = "Dell\x1b]0;mine\x07\x1b[2J\x1b[6n\x9b31m\rgone\x08\x7f\tend"
SHOWN = "Dell�]0;mine��[2J�[6n�31m�gone��\tend"


@pytest.fixture
def server() -> Any:
    """Answers every request with EVIL, below the status asked for in the path."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            status = int(self.path.rpartition("/")[2]) if self.path.rpartition("/")[2].isdigit() else 200
            doc: Any = {"error": {"brief": EVIL}} if status >= 400 else {EVIL: [{"vendor": EVIL}], "n": 1}
            body = json.dumps(doc, ensure_ascii="utf8" not in self.path).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            return

    http = HTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=http.serve_forever, daemon=True).start()
    yield Client(f"http://127.0.0.1:{http.server_port}")
    http.shutdown()


@pytest.mark.parametrize("path", ["/api/nodes", "/api/nodes/utf8", "/api/metadata/status"])
def test_answers_of_the_server(server: Client, path: str) -> None:
    assert server.get(path) == {SHOWN: [{"vendor": SHOWN}], "n": 1}


def test_what_is_edited_and_sent_back_is_left_alone(server: Client) -> None:
    assert server.get("/api/nodes/n1/metadata")[EVIL] == [{"vendor": EVIL}]


def test_errors(server: Client, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(BaremetalError) as caught:
        server.get("/api/404")
    assert caught.value.brief == SHOWN
    show(BaremetalError(EVIL, detail=EVIL, fix=EVIL))
    assert "\x1b" not in capsys.readouterr().err


def test_tables_fields_and_notes(capsys: pytest.CaptureFixture[str]) -> None:
    render.table([{"vendor": EVIL}], ["vendor"])
    render.fields({"vendor": {"x": [EVIL]}})
    render.note(EVIL)
    told = capsys.readouterr()
    assert not any(ch in told.out + told.err for ch in "\x1b\x07\x08\x7f\x9b\r")


def test_a_recorded_console_keeps_its_colours_only() -> None:
    assert clean.recorded("\x1b[1;31mred\x1b[0m\r\n\x1b[2J\x1b]52;c;cm0=\x07\x1b[6nend") == (
        "\x1b[1;31mred\x1b[0m\r\n[2J]52;c;cm0=[6nend"
    )
