"""key=value words, tables, and the client's errors."""

import json
import socket
import threading

import pytest

from baremetal.cli import render
from baremetal.cli.client import Client, node_path
from baremetal.cli.words import flat_pairs, pairs
from baremetal.errors import BaremetalError, Denied, NotFound, Refused, TimedOut, Unreachable, UsageError

PAIRS = [
    (["a=1"], {"a": 1}),
    (["a=text with = sign"], {"a": "text with = sign"}),
    (["web.port=80", "web.name=x"], {"web": {"port": 80, "name": "x"}}),
    (['ntp=["10.0.0.1"]'], {"ntp": ["10.0.0.1"]}),
    (['version="1.10"'], {"version": "1.10"}),
    (["a="], {"a": ""}),
    (["a=true", "b=null"], {"a": True, "b": None}),
]


@pytest.mark.parametrize(("words", "doc"), PAIRS)
def test_pairs(words, doc):
    assert pairs(words, "metadata") == doc


@pytest.mark.parametrize("words", [["a"], ["=1"], ["a=1", "a.b=2"]])
def test_pairs_that_are_none(words):
    with pytest.raises(UsageError):
        pairs(words, "metadata")


def test_flat_pairs_keep_dots():
    assert flat_pairs(["a.b=1"], "--label") == {"a.b": 1}


def test_piped_table_is_plain_and_never_cut(capsys):
    render.table([{"name": "n" * 200, "power": None}], ["name", "power"])
    lines = capsys.readouterr().out.splitlines()
    assert lines == ["NAME".ljust(200) + "  POWER", "n" * 200]


def test_empty_table_says_so_on_stderr(capsys):
    render.table([], ["name"], empty="nothing here")
    assert capsys.readouterr() == ("", "nothing here\n")


TIMES = [(1, "1 s"), (119, "119 s"), (121, "2 min"), (7201, "2 h"), (200_000, "2 d")]


@pytest.mark.parametrize(("seconds", "text"), TIMES)
def test_ago(seconds, text):
    assert render.ago(1000.0, 1000.0 + seconds) == text


def test_names_are_quoted_in_paths():
    assert node_path("a#b ?", "verbs", "x/y") == "/api/nodes/a%23b%20%3F/verbs/x%2Fy"


def one_answer(path, raw):
    """A server on a unix socket that answers one request with these bytes."""
    server = socket.socket(socket.AF_UNIX)
    server.bind(str(path))
    server.listen()

    def serve():
        peer, _ = server.accept()
        with peer, server:
            peer.recv(65536)
            peer.sendall(raw)

    threading.Thread(target=serve, daemon=True).start()
    return Client(socket_path=path)


def http(status, body):
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    head = f"HTTP/1.1 {status} x\r\nContent-Type: application/json\r\nContent-Length: {len(data)}\r\n\r\n"
    return head.encode() + data


STATUS = [(404, NotFound, 3), (409, Refused, 4), (401, Denied, 5), (503, Unreachable, 6), (504, TimedOut, 7),
          (422, UsageError, 2), (500, BaremetalError, 1)]  # fmt: skip


@pytest.mark.parametrize(("status", "kind", "code"), STATUS)
def test_status_becomes_an_exit_code(tmp_path, status, kind, code):
    error = {"error": {"code": "x", "brief": "what", "detail": "seen", "fix": "do"}}
    with pytest.raises(kind) as raised:
        one_answer(tmp_path / "s", http(status, error)).get("/api/nodes")
    assert (raised.value.brief, raised.value.detail, raised.value.fix) == ("what", "seen", "do")
    assert raised.value.exit_code == code


@pytest.mark.parametrize("raw", [b"", b"rubbish\r\n\r\n", http(500, b"<html>"), http(404, [])])
def test_rubbish_from_the_server_is_an_error_of_ours(tmp_path, raw):
    with pytest.raises(BaremetalError):
        one_answer(tmp_path / "s", raw).get("/api/nodes")


def test_server_sent_events(tmp_path):
    text = b': hello\n\nid: 1\nevent: state\ndata: {"a":1}\n\nevent: nodes\ndata: {"b":\ndata: 2}\n\n'
    head = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n"
    found = list(one_answer(tmp_path / "s", head + text).stream("/api/events/stream"))
    assert found == [("state", {"a": 1}), ("nodes", {"b": 2})]
