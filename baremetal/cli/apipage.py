"""The running server's OpenAPI document for people: a list on the terminal, or one page of HTML without any script."""

from __future__ import annotations

import html
import http.server
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from baremetal.cli import render
from baremetal.cli.client import Client

STYLE = (
    "body{font:15px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem}"
    "code{background:#8882;padding:.1em .3em;border-radius:3px}details{margin:.3em 0}summary{cursor:pointer}"
    "b{display:inline-block;min-width:4.5em}dt{font-family:monospace}"
)


def listing() -> None:
    """Every operation, a line each."""
    doc = Client.default().get("/api/openapi.json")
    rows = [{"method": m.upper(), "path": p, "what": o.get("summary", "")} for m, p, o in _operations(doc)]
    render.table(rows, ["method", "path", "what"])


def serve(port: int, write: Path | None) -> None:
    """Write the page, or show it on 127.0.0.1 until Ctrl-C."""
    text = page(Client.default().get("/api/openapi.json"))
    if write is not None:
        write.write_text(text)
        render.note(f"written: {write}")
        return
    body = text.encode()

    class Page(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "text/html; charset=utf-8")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:
            """Say nothing."""

    with http.server.ThreadingHTTPServer(("127.0.0.1", port), Page) as server:
        print(f"http://127.0.0.1:{server.server_port}", flush=True)
        server.serve_forever()


def page(doc: dict[str, Any]) -> str:
    """The document as HTML."""
    said = html.escape
    info = {key: said(str(doc["info"].get(key, ""))) for key in ("title", "version", "summary")}
    parts = [
        f"<!doctype html><meta charset=utf-8><title>{info['title']} API</title><style>{STYLE}</style>",
        f"<h1>{info['title']} {info['version']}</h1><p>{info['summary']}</p>",
    ]
    tags: dict[str, list[str]] = {}
    for method, path, operation in _operations(doc):
        tag = (operation.get("tags") or ["other"])[0]
        about = said(operation.get("description") or "").replace("\n\n", "<br>")
        names = "".join(
            f"<dt>{said(p['name'])}</dt><dd>{said(p['in'])}{', required' if p.get('required') else ''}</dd>"
            for p in operation.get("parameters") or []
        )
        tags.setdefault(tag, []).append(
            f"<details><summary><b>{method.upper()}</b> <code>{said(path)}</code> {said(operation.get('summary', ''))}"
            f"</summary><p>{about}</p><dl>{names}</dl></details>"
        )
    for tag in sorted(tags):
        parts += [f"<h2>{said(tag)}</h2>", *tags[tag]]
    return "\n".join(parts) + "\n"


def _operations(doc: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, operations in sorted(doc["paths"].items()):
        for method, operation in operations.items():
            yield method, path, operation
