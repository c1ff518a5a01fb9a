"""`baremetal image`: build, plan, list, show, add, verify, delete, export, diff, tag, lock, cache."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from baremetal.cli import render
from baremetal.cli.words import Json
from baremetal.errors import UsageError

if TYPE_CHECKING:
    from baremetal.images.builder import BuildResult, Options
    from baremetal.images.definition import Definition
    from baremetal.images.store import ImageStore, StoredImage

app = typer.Typer(no_args_is_help=True, help="Golden images: build, add, list, show, delete.")
cache_app = typer.Typer(no_args_is_help=True, help="Layers kept between builds.")
app.add_typer(cache_app, name="cache")

# Kept in the store beside the image.
EXTRAS = ("sbom.cdx.json", "packages.json", "provenance.json")

Target = Annotated[list[str], typer.Argument(metavar="IMAGE|ELEMENT...", help="A definition, or elements.")]
Paths = Annotated[
    list[Path] | None, typer.Option("--elements-path", "-E", help="Where elements are looked for first; repeat it.")
]
Opt = Annotated[list[str] | None, typer.Option("--option", "-O", metavar="NAME=VALUE", help="Option of a definition.")]
Ref = Annotated[str, typer.Argument(metavar="IMAGE", help="Name, tag or id in the store.")]


@app.command()
def build(
    what: Target,
    output: Annotated[str, typer.Option("-o", help="Write the image to this file (name without suffix).")] = "",
    arch: Annotated[str, typer.Option("-a", help="Architecture.")] = "amd64",
    types: Annotated[str, typer.Option("-t", help="Formats: qcow2,raw,raw.zst,tar,tgz,squashfs.")] = "",
    packages: Annotated[list[str] | None, typer.Option("-p", help="Extra packages, comma separated.")] = None,
    trace: Annotated[int, typer.Option("-x", count=True, help="Trace the scripts.")] = 0,
    no_base: Annotated[bool, typer.Option("-n", help="Without the element `base`.")] = False,
    uncompressed: Annotated[bool, typer.Option("-u", help="Uncompressed qcow2.")] = False,
    image_size: Annotated[str, typer.Option("--image-size", help="Size of the disk in GB.")] = "",
    root_label: Annotated[str, typer.Option("--root-label", help="Label of the root file system.")] = "",
    install_type: Annotated[str, typer.Option("--install-type", help="source or package.")] = "",
    elements_path: Paths = None,
    option: Opt = None,
    engine: Annotated[str, typer.Option("--engine", help="own, or dib: the original disk-image-create.")] = "own",
    add_image: Annotated[bool | None, typer.Option("--add/--no-add", help="Put it into the image store.")] = None,
    refresh: Annotated[bool, typer.Option("--refresh", help="Ask the mirror for news now.")] = False,
    offline: Annotated[bool, typer.Option("--offline", help="Ask no mirror; use what is cached.")] = False,
    until: Annotated[str, typer.Option("--until", metavar="PHASE", help="Stop after this phase.")] = "",
    shell_on_failure: Annotated[bool, typer.Option("--shell-on-failure", help="A shell where it failed.")] = False,
    epoch: Annotated[str, typer.Option("--epoch", help="SOURCE_DATE_EPOCH: the date of everything.")] = "",
    cache_dir: Annotated[Path | None, typer.Option("--cache-dir", help="Layers and built images.")] = None,
    as_json: Json = False,
) -> None:
    """Build an image from a definition, or from elements as disk-image-create does."""
    from baremetal.images import builder, userns

    if engine != "dib":
        userns.enter()
    classic = _Classic(
        output, arch, types, packages, trace, no_base, uncompressed, image_size, root_label, install_type
    )
    if engine == "dib":
        _dib(what, classic, elements_path)
        return
    definition = _definition(what, option, classic)
    options = _options(elements_path, refresh, offline, until, shell_on_failure, epoch, cache_dir)
    with _Bar(definition.name, plain=options.shell_on_failure) as bar:
        result = builder.build(definition, options, bar.step)
    for warning in result.warnings:
        render.note(f"warning: {warning}")
    written = _deliver(result, output)
    keep = add_image if add_image is not None else (not output and not until and userns.initial())
    stored = _store_result(result, definition) if keep and result.kind != "partial" else None
    _say(result, written, stored, as_json)


@app.command()
def plan(
    what: Target,
    elements_path: Paths = None,
    option: Opt = None,
    no_base: Annotated[bool, typer.Option("-n", help="Without the element `base`.")] = False,
    refresh: Annotated[bool, typer.Option("--refresh", help="Ask the mirror for news now.")] = False,
    offline: Annotated[bool, typer.Option("--offline", help="Ask no mirror.")] = False,
    cache_dir: Annotated[Path | None, typer.Option("--cache-dir", help="Layers and built images.")] = None,
    as_json: Json = False,
) -> None:
    """What a build would run, and why; builds nothing."""
    from baremetal.images import builder

    definition = _definition(what, option, _Classic(no_base=no_base))
    rows = builder.explain(definition, _options(elements_path, refresh, offline, "", False, "", cache_dir))
    if as_json:
        render.json_out({"image": definition.name, "steps": rows})
        return
    for row in rows:
        row["does"] = "reuse" if row["cached"] else "run"
        row["scripts"] = len(row["scripts"]) if isinstance(row["scripts"], list) else 0
        row["size"] = render.size(_number(row.get("size"))) if row["cached"] else ""
    render.table(rows, ["step", "does", "scripts", "size", "why"])


@app.command("list")
def list_images(as_json: Json = False) -> None:
    """Images in the store, and definitions that can be built."""
    from baremetal.images import catalog

    images = _store().list()
    if as_json:
        render.json_out({"images": [_doc(i) for i in images], "definitions": sorted(catalog.definitions())})
        return
    rows = [_doc(image) | {"id": image.hex[:12], "size": render.size(image.size)} for image in images]
    render.table(rows, ["name", "kind", "id", "size", "created", "tags"], empty="no images in the store")
    render.note(f"definitions: {', '.join(sorted(catalog.definitions()))}")


@app.command()
def show(ref: Ref, as_json: Json = False) -> None:
    """One stored image."""
    image = _store().get(ref)
    doc = _doc(image)
    if as_json:
        render.json_out(doc)
        return
    render.fields({**doc, "size": render.size(image.size), "directory": str(image.dir)})


@app.command()
def add(
    source: Annotated[str, typer.Argument(metavar="FILE|URL", help="A qcow2 or raw disk.")],
    name: Annotated[str, typer.Option("--name", help="Name in the store [the file's].")] = "",
    sha256: Annotated[str, typer.Option("--sha256", help="What the file must hash to; asked for with a URL.")] = "",
    prop: Annotated[list[str] | None, typer.Option("--property", metavar="NAME=VALUE", help="Repeat it.")] = None,
    as_json: Json = False,
) -> None:
    """Take a disk image into the store: chunked, compressed, signed."""
    from baremetal.images import fetch

    title = name or Path(source.partition("?")[0]).name.rsplit(".", 1)[0]
    properties = dict(_pair(text) for text in prop or [])
    with _Bar(title) as bar, fetch.opened(source, sha256) as given:
        image = _store().add(given, name=title, properties=properties, sha256=sha256, progress=bar.bytes)
    _shown(image, as_json)


@app.command()
def verify(ref: Ref, as_json: Json = False) -> None:
    """Check signature and every chunk of a stored image."""
    from baremetal.config import Settings
    from baremetal.images import manifest

    key = Settings.load().keys_dir / "image-signing.pem"
    image = _store().verify(ref, manifest.public_hex(key) if key.exists() else "")
    if as_json:
        render.json_out({"id": image.id, "name": image.name, "sound": True})
    else:
        render.note(f"{image.name}: sound")


@app.command()
def delete(ref: Ref) -> None:
    """Remove an image no node refers to."""
    image = _store().delete(ref, used_by=_users)
    render.note(f"{image.name} deleted")


@app.command()
def export(ref: Ref, target: Annotated[Path, typer.Argument(metavar="FILE", help="Where to write it.")]) -> None:
    """Write a stored image as a raw disk (a ramdisk: kernel and initrd into a directory)."""
    render.note(f"wrote {_store().export(ref, target)}")


@app.command()
def tag(ref: Ref, tags: Annotated[list[str], typer.Argument(metavar="TAG...")]) -> None:
    """Give an image more names; a tag names one image at a time."""
    image = _store().tag(ref, *tags)
    render.note(f"{image.name}: {', '.join(image.tags)}")


@app.command()
def diff(
    a: Annotated[str, typer.Argument(metavar="A", help="A built image's directory or id, or a definition's name.")],
    b: Annotated[str, typer.Argument(metavar="B")],
    files: Annotated[bool, typer.Option("--files/--no-files", help="List files too.")] = True,
    cache_dir: Annotated[Path | None, typer.Option("--cache-dir")] = None,
    as_json: Json = False,
) -> None:
    """Packages and files that differ between two builds. Exit code 1 when they do."""
    from baremetal.images import compare

    found = compare.builds(compare.locate(a, _cache(cache_dir)), compare.locate(b, _cache(cache_dir)), files=files)
    if as_json:
        render.json_out(found.document())
    else:
        for line in found.lines():
            print(line)
    if found:
        raise typer.Exit(1)


@app.command()
def lock(
    what: Annotated[str, typer.Argument(metavar="IMAGE", help="A definition.")],
    cache_dir: Annotated[Path | None, typer.Option("--cache-dir")] = None,
) -> None:
    """Pin the package versions of the last build beside the definition."""
    from baremetal.images import catalog, lockfile

    path = lockfile.write(catalog.find(what), _cache(cache_dir))
    render.note(f"wrote {path}; builds use it from now on, remove it to go on with the mirror")


@cache_app.command("list")
def cache_list(
    cache_dir: Annotated[Path | None, typer.Option("--cache-dir")] = None,
    as_json: Json = False,
) -> None:
    """Layers, least recently used first."""
    from baremetal.images.layers import LayerStore

    rows = [
        {"layer": layer.key, "phase": layer.phase, "image": layer.image, "size": layer.size, "used": layer.used}
        for layer in LayerStore(_cache(cache_dir)).list()
    ]
    if as_json:
        render.json_out({"layers": rows})
        return
    for row in rows:
        row["size"], row["used"] = render.size(_number(row["size"])), render.ago(_number(row["used"]))
    render.table(rows, ["layer", "phase", "image", "size", "used"], empty="no layers")


@cache_app.command("prune")
def cache_prune(
    limit: Annotated[str, typer.Option("--limit", help="Keep at most this much, newest first.")] = "10GiB",
    cache_dir: Annotated[Path | None, typer.Option("--cache-dir")] = None,
) -> None:
    """Remove the least recently used layers and built images until the cache is below a size."""
    from baremetal.images import prune
    from baremetal.images.sizes import parse_size, show_size

    freed = prune.prune(_cache(cache_dir), parse_size(limit))
    render.note(f"freed {show_size(freed)}")


# -- what verbs share ----------------------------------------------------------------------------------------------


class _Classic:
    """disk-image-create's options as they were given."""

    def __init__(
        self,
        output: str = "",
        arch: str = "amd64",
        types: str = "",
        packages: list[str] | None = None,
        trace: int = 0,
        no_base: bool = False,
        uncompressed: bool = False,
        image_size: str = "",
        root_label: str = "",
        install_type: str = "",
    ) -> None:
        self.output, self.arch, self.types, self.trace = output, arch, types, trace
        self.packages = [name for text in packages or [] for name in text.split(",") if name]
        self.no_base, self.uncompressed, self.image_size = no_base, uncompressed, image_size
        self.root_label, self.install_type = root_label, install_type


def _definition(what: list[str], option: list[str] | None, classic: _Classic) -> Definition:
    """A definition by name, or one made of elements."""
    import dataclasses

    from baremetal.images import catalog
    from baremetal.images.classic import Call
    from baremetal.images.classic import definition as from_call
    from baremetal.images.definition import with_options

    if len(what) == 1 and catalog.is_definition(what[0]) and not classic.no_base:
        found = with_options(catalog.find(what[0]), dict(_pair(text) for text in option or []))
        if classic.types:
            found = dataclasses.replace(found, formats=tuple(classic.types.split(",")))
        return dataclasses.replace(found, packages=(*found.packages, *classic.packages))
    if option:
        raise UsageError("--option belongs to a definition, not to a list of elements")
    call = Call(
        elements=tuple(what),
        output=classic.output or "image",
        arch=classic.arch,
        types=tuple((classic.types or "qcow2").split(",")),
        packages=tuple(classic.packages),
        skip_base=classic.no_base,
        trace=classic.trace,
        image_size_gib=classic.image_size,
        uncompressed=classic.uncompressed,
        root_label=classic.root_label,
        install_type=classic.install_type,
    )
    return from_call(call, os.environ)


def _options(
    elements_path: list[Path] | None,
    refresh: bool,
    offline: bool,
    until: str,
    shell_on_failure: bool,
    epoch: str,
    cache_dir: Path | None,
) -> Options:
    from baremetal.images.builder import Options

    extra = [Path(p) for p in os.environ.get("ELEMENTS_PATH", "").split(":") if p]
    return Options(
        cache=_cache(cache_dir),
        elements_path=tuple(path.resolve() for path in (*(elements_path or []), *extra)),
        refresh=refresh,
        offline=offline,
        until=until,
        shell_on_failure=shell_on_failure or "after-error" in os.environ.get("break", ""),  # noqa: SIM112
        epoch=epoch or os.environ.get("SOURCE_DATE_EPOCH") or None,
    )


def _cache(given: Path | None) -> Path:
    if given:
        return given.resolve()
    from baremetal.config import Settings
    from baremetal.images import userns

    if os.geteuid() != 0 and "BAREMETAL_CACHE_DIR" not in os.environ:
        return userns.user_cache()

    return Settings.load().cache_dir


def _store() -> ImageStore:
    from baremetal.config import Settings
    from baremetal.images import manifest
    from baremetal.images.store import ImageStore

    settings = Settings.load()
    key = settings.keys_dir / "image-signing.pem"
    if not key.exists() and os.access(settings.state_dir.parent, os.W_OK):
        manifest.make_key(settings.keys_dir)
    return ImageStore(settings.images_dir, signing_key=key)


def _store_result(result: BuildResult, definition: Definition) -> StoredImage:
    """The built image in the store; nothing is done when this very build is there already."""
    store = _store()
    for image in store.list():
        if image.properties.get("build") == result.id and image.name == result.name:
            return image
    properties = {**definition.properties, "build": result.id, "arch": "x86_64"}
    extras = {n: result.directory / n for n in EXTRAS if (result.directory / n).exists()}
    if result.kind == "ramdisk":
        kernel, initrd = result.directory / "kernel", result.directory / "initrd"
        return store.add_ramdisk(kernel, initrd, name=result.name, properties=properties, extras=extras)
    with _Bar(f"{result.name}: store") as bar:
        return store.add(result.path, name=result.name, properties=properties, extras=extras, progress=bar.bytes)


def _deliver(result: BuildResult, output: str) -> list[Path]:
    """Copies of the built files where -o says; reflinked where the file system can."""
    import shutil

    if not output or result.kind == "partial":
        return []
    written = []
    stem = Path(output)
    for path in result.files:
        suffix = path.name.removeprefix(result.name)
        target = stem if stem.name.endswith(suffix) else Path(f"{stem}{suffix}")
        if result.kind == "ramdisk":
            target = Path(f"{stem}.{path.name}")
        shutil.copyfile(path, target)
        written.append(target)
    return written


def _say(result: BuildResult, written: list[Path], stored: StoredImage | None, as_json: bool) -> None:
    if as_json:
        doc: dict[str, Any] = {"name": result.name, "build": result.id, "kind": result.kind, "cached": result.cached}
        doc |= {"path": str(result.path), "files": [str(p) for p in written or result.files]}
        doc |= {"seconds": round(result.seconds, 2), "cpu_s": round(result.cpu_s, 2), "warnings": result.warnings}
        render.json_out({**doc, "image": stored.id if stored else None})
        return
    how = "nothing changed" if result.cached else f"built in {result.seconds:.1f} s ({result.cpu_s:.1f} s of CPU)"
    render.note(f"{result.name}: {how}")
    for path in written or [result.path]:
        print(path)
    if stored:
        render.note(f"stored as {stored.name}, {stored.id[:19]}")


def _dib(what: list[str], classic: _Classic, elements_path: list[Path] | None) -> None:
    from baremetal.images import dib

    raise typer.Exit(dib.run(what, vars(classic), elements_path or []))


def _users(image_id: str) -> list[str]:
    """Nodes that refer to an image; asks the server when one runs."""
    from baremetal.cli.client import Client
    from baremetal.errors import Unreachable

    try:
        nodes = Client.default().get("/api/nodes", limit=1000)["nodes"]
    except (Unreachable, KeyError):
        return []
    return [node["name"] for node in nodes if node.get("image_id") == image_id]


def _doc(image: StoredImage) -> dict[str, Any]:
    doc: dict[str, Any] = {"name": image.name, "kind": image.kind, "id": image.id, "size": image.size}
    doc |= {"created": image.created, "tags": list(image.tags), "properties": image.properties}
    if image.manifest:
        zero = sum(chunk.zsize == 0 for chunk in image.manifest.chunks)
        doc |= {"raw_size": image.manifest.raw_size, "chunks": len(image.manifest.chunks), "zero_chunks": zero}
    return doc


def _shown(image: StoredImage, as_json: bool) -> None:
    if as_json:
        render.json_out(_doc(image))
    else:
        render.note(f"{image.name}: {render.size(image.size)}")
        print(image.id)


def _pair(text: str) -> tuple[str, str]:
    name, sep, value = text.partition("=")
    if not sep:
        raise UsageError(f"{text!r} is not NAME=VALUE")
    return name, value


def _number(value: object) -> float:
    return float(value) if isinstance(value, int | float) else 0.0


class _Bar:
    """Progress on stderr: a bar on a terminal, a line a step elsewhere."""

    def __init__(self, title: str, *, plain: bool = False) -> None:
        self.title = title
        self.plain = plain  # a shell may need the terminal
        self.last = ""
        self.progress: Any = None
        self.task: Any = None

    def __enter__(self) -> _Bar:
        import sys

        if not self.plain and sys.stderr.isatty() and os.environ.get("TERM") != "dumb":
            from rich.console import Console
            from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

            columns = (
                TextColumn("{task.description}"),
                BarColumn(),
                TimeElapsedColumn(),
                TextColumn("{task.fields[at]}"),
            )
            self.progress = Progress(*columns, console=Console(stderr=True), transient=True)
            self.task = self.progress.add_task(self.title, total=1.0, at="")
            self.progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self.progress:
            self.progress.stop()

    def step(self, step: str, script: str, fraction: float) -> None:
        """From a build."""
        if self.progress:
            self.progress.update(self.task, completed=fraction, at=f"{step} {script}")
        elif step != self.last:
            render.note(f"{self.title}: {step}")
        self.last = step

    def bytes(self, done: int, total: int) -> None:
        """From the store."""
        if self.progress:
            at = f"{render.size(done)} of {render.size(total)}"
            self.progress.update(self.task, completed=done / max(1, total), at=at)
