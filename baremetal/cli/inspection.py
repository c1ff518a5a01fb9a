"""`baremetal inspection …`: rules and SKUs that judge what inspection finds, as data."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import quote

import typer

from baremetal.cli import render
from baremetal.cli.client import Client, node_path
from baremetal.cli.listing import Listed, listing
from baremetal.cli.words import Json, NodeName, complete_rules, complete_skus, document
from baremetal.errors import EXIT_FAILED, NotFound, UsageError

app = typer.Typer(no_args_is_help=True, help="Rules and SKUs that judge what inspection finds.")
rule = typer.Typer(no_args_is_help=True, help="Rules: set name, class, traits, labels, root device from facts.")
sku = typer.Typer(no_args_is_help=True, help="SKUs: the hardware a machine must have.")
app.add_typer(rule, name="rule")
app.add_typer(sku, name="sku")

Source = Annotated[Path, typer.Argument(metavar="FILE", help="TOML, JSON or YAML; - is standard input.")]
RuleName = Annotated[str, typer.Argument(metavar="NAME", autocompletion=complete_rules)]
SkuName = Annotated[str, typer.Argument(metavar="NAME", autocompletion=complete_skus)]


def _read(path: Path) -> list[dict[str, Any]]:
    """One document, a list, or the tables [[rule]] / [[sku]] of a TOML file."""
    if path.suffix == ".toml":
        import tomllib

        try:
            doc: Any = tomllib.loads(path.read_text())
        except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as exc:
            raise UsageError(f"cannot read {path}: {exc}") from exc
        doc = [*doc.get("rule", []), *doc.get("sku", [])] if {"rule", "sku"} & set(doc) else doc
    else:
        doc = document(path)
    docs = doc if isinstance(doc, list) else [doc]
    if not docs or not all(isinstance(d, dict) and d.get("name") for d in docs):
        raise UsageError(f"{path}: a rule or SKU is a mapping with a name", fix="docs: how-to/inspection-rules.md")
    return docs


def _add(kind: str, path: Path, as_json: bool) -> None:
    client, docs = Client.default(), _read(path)
    other = {"rules": "expect", "skus": "then"}[kind]
    if wrong := [doc["name"] for doc in docs if other in doc]:
        noun = "sku" if kind == "rules" else "rule"
        raise UsageError(f"{path}: {', '.join(wrong)} is a {noun}", fix=f"baremetal inspection {noun} add {path}")
    for doc in docs:
        client.put(f"/api/inspection/{kind}/{quote(doc['name'], safe='')}", doc)
        if not as_json:
            render.note(f"{doc['name']}: stored")
    if as_json:
        render.json_out({"stored": [doc["name"] for doc in docs]})


def _list(kind: str, columns: list[str], listed: Listed) -> None:
    empty = f"no {kind}; see docs/how-to/inspection-rules.md"
    listed.show(Client.default().get(f"/api/inspection/{kind}"), kind, columns, row=_row, empty=empty)


def _row(doc: Mapping[str, Any]) -> dict[str, Any]:
    """Conditions and actions as a person reads them."""
    when = " and ".join(_condition(c) for c in doc.get("when") or ())
    then = ", ".join(_action(a) for a in doc.get("then") or ())
    return {"when": when or "always", **({"then": then} if "then" in doc else {})}


def _condition(one: Mapping[str, Any]) -> str:
    text = f"{one.get('field')} {one.get('op', 'eq')} {render.text_of(one.get('value'))}".strip()
    return f"not ({text})" if one.get("not") else text


def _action(one: Mapping[str, Any]) -> str:
    if "set" in one:
        return f"{one['set']} = {render.text_of(one.get('to'))}"
    return " ".join(f"{name} {render.text_of(value)}" for name, value in one.items())


def _show(kind: str, name: str) -> None:
    docs = Client.default().get(f"/api/inspection/{kind}")[kind]
    found = next((d for d in docs if d["name"] == name), None)
    if found is None:
        raise NotFound(f"no {kind[:-1]} {name!r}", fix=f"baremetal inspection {kind[:-1]} list")
    render.json_out(found)


def _delete(kind: str, name: str, as_json: bool) -> None:
    Client.default().delete(f"/api/inspection/{kind}/{quote(name, safe='')}")
    render.json_out({"deleted": name}) if as_json else render.note(f"{name}: deleted")


@rule.command("add")
def rule_add(file: Source, as_json: Json = False) -> None:
    """Store rules, or replace those of the same name."""
    _add("rules", file, as_json)


@rule.command("list")
@listing
def rule_list(listed: Listed) -> None:
    """All rules, in the order they are tried."""
    _list("rules", ["name", "priority", "when", "then"], listed)


@rule.command("show")
def rule_show(name: RuleName, _json: Json = False) -> None:
    """One rule, always as JSON or YAML."""
    _show("rules", name)


@rule.command("delete")
def rule_delete(name: RuleName, as_json: Json = False) -> None:
    """Forget a rule; what it set stays."""
    _delete("rules", name, as_json)


@sku.command("add")
def sku_add(file: Source, as_json: Json = False) -> None:
    """Store SKUs, or replace those of the same name."""
    _add("skus", file, as_json)


@sku.command("list")
@listing
def sku_list(listed: Listed) -> None:
    """All SKUs."""
    _list("skus", ["name", "when", "expect"], listed)


@sku.command("show")
def sku_show(name: SkuName, _json: Json = False) -> None:
    """One SKU, always as JSON or YAML."""
    _show("skus", name)


@sku.command("delete")
def sku_delete(name: SkuName, as_json: Json = False) -> None:
    """Forget a SKU."""
    _delete("skus", name, as_json)


@app.command("test")
def try_(
    node: NodeName,
    file: Annotated[Path | None, typer.Option(help="Rules or SKUs that are not stored yet.")] = None,
    as_json: Json = False,
) -> None:
    """What rules and SKUs would make of a node's stored inventory. Changes nothing."""
    body: dict[str, Any] = {"dry_run": True}
    if file:
        body["extra"] = _read(file)
    _tell(Client.default().post(node_path(node, "inventory", "reprocess"), body), as_json)


@app.command()
def reprocess(node: NodeName, as_json: Json = False) -> None:
    """Judge a node's stored inventory again, by the rules as they are now. The machine is not touched."""
    _tell(Client.default().post(node_path(node, "inventory", "reprocess"), {}), as_json)


def _tell(doc: dict[str, Any], as_json: bool) -> None:
    if as_json:
        render.json_out(doc)
    else:
        from baremetal.workflows import rules

        for said in doc["said"]:
            words = [f"{k} {render.text_of(v)}" for k, v in said.items() if k != "rule"]
            print(f"rule {said['rule']}: {' '.join(words)}")
        for field, value in doc["changes"].items():
            print(f"{field} = {render.text_of(value)}")
        if doc.get("sku"):
            print(f"SKU {doc['sku']}: " + ("differs" if doc["differences"] else "as expected"))
        for wrong in doc["differences"]:
            print(f"  {rules.told(wrong)}")
        for failure in doc["failures"]:
            print(f"fails: {failure}")
        if not (doc["said"] or doc["sku"]):
            render.note("no rule and no SKU has anything to say about it")
    if doc.get("fault"):
        raise typer.Exit(EXIT_FAILED)
