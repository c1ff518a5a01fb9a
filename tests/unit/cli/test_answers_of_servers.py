"""What the command line makes of a server's refusals, and of answers that are none of ours: words and exit code."""

from __future__ import annotations

import http.server
import threading
from collections.abc import Iterator

import pytest

from baremetal.cli.client import Client
from baremetal.errors import BaremetalError

OURS = '{"error": {"code": "%s", "brief": "b", "detail": "d", "fix": "f"}}'
ANSWERS = [  # status, body, exit code, brief begins
    (400, OURS % "usage", 2, "b"),
    (403, OURS % "denied", 5, "b"),
    (404, OURS % "not-found", 3, "b"),
    (409, OURS % "no-bmc", 4, "b"),
    (500, OURS % "internal", 1, "b"),
    (502, OURS % "bmc-unreachable", 6, "b"),
    (503, OURS % "store", 6, "b"),
    (503, OURS % "machine", 8, "b"),
    (504, OURS % "bmc-timeout", 7, "b"),
    (500, "no JSON at all", 6, "the server answered 500"),
    (502, "<html>a proxy</html>", 6, "the server answered 502"),
    (500, '{"error": 7}', 1, "the server answered 500"),
    (500, '{"error": ["x"]}', 1, "the server answered 500"),
    (418, "", 1, "the server answered 418"),
]


class Handler(http.server.BaseHTTPRequestHandler):
    answer: tuple[int, str] = (200, "")

    def do_GET(self) -> None:
        status, body = self.answer
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body.encode())

    def log_message(self, *_: object) -> None:
        return


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    server = http.server.HTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize(("status", "body", "code", "brief"), ANSWERS)
def test_answer(url: str, status: int, body: str, code: int, brief: str) -> None:
    Handler.answer = (status, body)
    with pytest.raises(BaremetalError) as caught:
        Client(url).get("/api/status")
    assert (caught.value.exit_code, caught.value.brief[: len(brief)]) == (code, brief)
    assert caught.value.fix
