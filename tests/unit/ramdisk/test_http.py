"""The agents' HTTP client against servers that break the rules, lie about who they are, or go away."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from baremetal.agents import http
from baremetal.agents.http import BadAnswer, Client, ServerDistrusted, ServerSaid, ServerUnreachable, Url

URLS = [
    ("https://10.0.0.1:8443", (True, "10.0.0.1", 8443, "/")),
    ("http://s/a/b?c=d", (False, "s", 80, "/a/b?c=d")),
    ("https://[fd90::1]:8443/x", (True, "fd90::1", 8443, "/x")),
    ("HTTPS://s", (True, "s", 443, "/")),
]


@pytest.mark.parametrize(("text", "parts"), URLS)
def test_url(text: str, parts: tuple[Any, ...]) -> None:
    assert tuple(Url.parse(text)) == parts


@pytest.mark.parametrize(
    "text",
    ["", "ftp://x", "http://", "http://u:p@h/", "http://h:0/", "http://h:99999", "http://h/a b", "http://h/\r\nX: y",
     "http://[::1", "http://h:8x", "file:///etc/passwd", "http://h/#frag", "http://hö/"],
)  # fmt: skip
def test_bad_url(text: str) -> None:
    with pytest.raises(ValueError):
        Url.parse(text)


@pytest.fixture
def answering() -> Iterator[Callable[..., Client]]:
    """A Client of a server that sends these bytes to each connection in turn, then closes."""
    listeners: list[socket.socket] = []

    def make(*answers: bytes, timeout_s: float = 2.0) -> Client:
        listener = socket.create_server(("127.0.0.1", 0))
        listeners.append(listener)

        def serve() -> None:
            for answer in answers:
                try:
                    peer, _ = listener.accept()
                except OSError:
                    return
                with peer:
                    peer.recv(65536)
                    peer.sendall(answer)

        threading.Thread(target=serve, daemon=True).start()
        return Client(f"http://127.0.0.1:{listener.getsockname()[1]}", timeout_s=timeout_s)

    yield make
    for listener in listeners:
        listener.close()


GOOD = [
    (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello", b"hello"),
    (b"HTTP/1.1 200 OK\nContent-Length: 5\n\nhello", b"hello"),
    (b"HTTP/1.0 200 OK\r\n\r\nuntil the end", b"until the end"),
    (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2;x=y\r\nde\r\n0\r\nT: r\r\n\r\n", b"abcde"),
    (b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", b""),
    (b"HTTP/1.1 204 No Content\r\n\r\n", b""),
]


@pytest.mark.parametrize(("raw", "body"), GOOD)
def test_answers(answering: Any, raw: bytes, body: bytes) -> None:
    assert answering(raw).request("GET", "/").body == body


BROKEN = [
    (b"", ServerUnreachable),
    (b"SSH-2.0-OpenSSH_9.2\r\n", BadAnswer),
    (b"HTTP/1.1 2x0 OK\r\n\r\n", BadAnswer),
    (b"HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\n", BadAnswer),
    (b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999999\r\n\r\n", BadAnswer),
    (b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nshort", ServerUnreachable),
    (b"HTTP/1.1 200 OK\r\nno colon\r\n\r\n", BadAnswer),
    (b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 200 + b"\r\n", BadAnswer),
    (b"HTTP/1.1 200 OK\r\nX: " + b"y" * 100_000, BadAnswer),
    (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", BadAnswer),
    (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n-1\r\n", BadAnswer),
    (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab", ServerUnreachable),
    (b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * 200_000, BadAnswer),  # beyond the limit given below
]


@pytest.mark.parametrize(("raw", "kind"), BROKEN)
def test_rule_breakers(answering: Any, raw: bytes, kind: type[Exception]) -> None:
    with pytest.raises(kind):
        answering(raw).request("GET", "/", limit=100_000)


def test_silence_ends_at_the_timeout(answering: Any) -> None:
    listener = socket.create_server(("127.0.0.1", 0))
    with pytest.raises(ServerUnreachable):
        Client(f"http://127.0.0.1:{listener.getsockname()[1]}", timeout_s=0.2).request("GET", "/")
    listener.close()


def test_nobody_there() -> None:
    with pytest.raises(ServerUnreachable, match=r"127\.0\.0\.1:9"):
        Client("http://127.0.0.1:9").request("GET", "/")


def test_a_connection_closed_while_idle_is_made_anew(answering: Any) -> None:
    answer = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
    client = answering(answer, answer)
    assert client.request("GET", "/a").body == b"ok"
    assert client.request("GET", "/b").body == b"ok"


def test_errors_speak_with_the_servers_words(server: Any) -> None:
    client = Client(server.https_url, ca_file=str(server.ca_file))
    with pytest.raises(ServerSaid, match="no such image") as caught:
        client.request("GET", "/nothing").expect(200)
    assert (caught.value.status, caught.value.server_code) == (404, "not-found")


def test_another_ca_is_not_trusted(server: Any, tmp_path: Path, make_certificate: Any) -> None:
    foreign, _ = make_certificate(tmp_path)
    with pytest.raises(ServerDistrusted):
        Client(server.https_url, ca_file=str(foreign)).request("GET", "/")


def test_a_certificate_for_another_address_is_not_trusted(
    tmp_path: Path, make_certificate: Any, serve_with: Any
) -> None:
    import http.server

    ca, pem = make_certificate(tmp_path, "127.0.0.2")
    httpd = serve_with(http.server.BaseHTTPRequestHandler, pem)
    with pytest.raises(ServerDistrusted, match="is not the server"):
        Client(f"https://127.0.0.1:{httpd.server_port}", ca_file=str(ca)).request("GET", "/")
    httpd.shutdown()


def test_a_wrong_clock_is_forgiven_only_when_asked(tmp_path: Path, make_certificate: Any, serve_with: Any) -> None:
    import http.server

    ca, pem = make_certificate(tmp_path, days=-1)  # expired in 2001
    httpd = serve_with(http.server.BaseHTTPRequestHandler, pem)
    url = f"https://127.0.0.1:{httpd.server_port}"
    with pytest.raises(ServerDistrusted):
        Client(url, ca_file=str(ca)).request("GET", "/")
    assert Client(url, ca_file=str(ca), check_time=False).request("GET", "/").status == 501
    httpd.shutdown()


def test_no_ca_no_https() -> None:
    with pytest.raises(ValueError, match="CA"):
        Client("https://x")
    with pytest.raises(ServerDistrusted):
        Client("https://x", ca_pem="nonsense")


@pytest.mark.parametrize("path", ["no-slash", "/a b", "/a\r\nX: y"])
def test_a_path_cannot_smuggle(path: str) -> None:
    with pytest.raises(ValueError):
        Client("http://127.0.0.1:9").request("GET", path)
    with pytest.raises(ValueError):
        Client("http://127.0.0.1:9").request("GET", "/", headers={"X": "a\r\nB: c"})


def test_retrying_doubles_its_waits_with_jitter() -> None:
    waits: list[float] = []
    answers = iter([ServerUnreachable("a"), ServerSaid(503, "", "b"), ServerUnreachable("c"), None])

    def call() -> str:
        answer = next(answers)
        if answer is not None:
            raise answer
        return "done"

    assert http.retrying(call, first_s=1.0, sleep=waits.append) == "done"
    assert [0.5 * n <= w <= n for w, n in zip(waits, (1, 2, 4), strict=True)] == [True] * 3


def test_retrying_does_not_repeat_what_waiting_cannot_heal() -> None:
    def call() -> None:
        raise ServerSaid(403, "nonce-used", "no")

    with pytest.raises(ServerSaid):
        http.retrying(call, sleep=lambda s: pytest.fail("waited"))
