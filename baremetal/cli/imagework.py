"""What the verbs of `baremetal image` share: calls, options, the store, what is printed."""

from __future__ import annotations

import contextlib
import difflib
import errno
import os
import shlex
import signal
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import typer

from baremetal.cli import render
from baremetal.cli.imagebar import Bar
from baremetal.errors import BaremetalError, MachineError, UsageError

if TYPE_CHECKING:
    from baremetal.images.builder import BuildResult, Options
    from baremetal.images.definition import Definition
    from baremetal.images.store import ImageStore, StoredImage

# Kept in the store beside the image.
EXTRAS = ("sbom.cdx.json", "packages.json", "provenance.json")


@dataclass
class Classic:
    """disk-image-create's options as they were given; `original`: words only --engine dib understands."""

    output: str = ""
    arch: str = "amd64"
    types: str = ""
    packages: list[str] = field(default_factory=list)
    trace: int = 0
    no_base: bool = False
    uncompressed: bool = False
    image_size: str = ""
    root_label: str = ""
    install_type: str = ""
    qemu_img_options: str = ""
    checksum: bool = False
    extra_size: str = ""
    mkfs_options: str = ""
    journal_mib: str = ""
    max_online_resize: str = ""
    original: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.packages = [name for text in self.packages for name in text.split(",") if name]


def definition(what: list[str], option: list[str] | None, classic: Classic) -> Definition:
    """A definition by name, or one made of elements."""
    from baremetal.images import catalog
    from baremetal.images import classic as calls
    from baremetal.images.definition import with_options

    if classic.original:
        raise UsageError(f"{classic.original[0]} means something to the original only", fix="add --engine dib")
    call = calls.Call(
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
        qemu_img_options=classic.qemu_img_options,
        extra_size_gib=classic.extra_size,
        mkfs_options=classic.mkfs_options,
        journal_mib=classic.journal_mib,
        max_online_resize=classic.max_online_resize,
    )
    if len(what) == 1 and catalog.is_definition(what[0]) and not classic.no_base:
        found = with_options(catalog.find(what[0]), dict(pair(text) for text in option or []))
        return calls.changed(found, call, types_given=bool(classic.types))
    if option:
        raise UsageError("--option belongs to a definition, not to a list of elements")
    return calls.definition(call, os.environ)


@contextlib.contextmanager
def definitions_told(what: list[str]) -> Iterator[None]:
    """A word that is no element: which definitions there are, or that it is one and stands alone."""
    from baremetal.images import catalog
    from baremetal.images.errors import ElementNotFound

    try:
        yield
    except ElementNotFound as exc:
        names = sorted(catalog.definitions())
        mixed = [word for word in what if word in names and repr(word) in exc.brief]
        if mixed:
            exc.fix = f"{mixed[0]} is a definition: it stands alone, without elements beside it and without -n"
        elif len(what) == 1 and repr(what[0]) in exc.brief:
            exc.brief = f"{what[0]!r} is neither a definition nor an element"
            exc.detail = f"definitions: {', '.join(names)}\n{exc.detail}"
            near = difflib.get_close_matches(what[0], names, 1)
            exc.fix = f"did you mean {near[0]}?" if near else exc.fix
        raise


def for_the_original(given: Mapping[str, object]) -> list[str]:
    """Options with a value as words of the original's command line."""
    return [word for name, value in given.items() if value for word in (name, str(value))]


@contextlib.contextmanager
def one_log(directory: Path, target: Path | None) -> Iterator[None]:
    """Afterwards: the logs of all phases of the build in one file, as --logfile asks."""
    try:
        yield
    finally:
        if target is not None and directory.is_dir():
            logs = sorted(path for path in directory.glob("*.log") if path.name != "assemble.log")
            target.write_bytes(b"".join(path.read_bytes() for path in logs))


@contextlib.contextmanager
def told() -> Iterator[None]:
    """Errors of a build name the command that was given; an interrupted one says what is kept."""
    from baremetal.images.errors import BuildFailed

    def stop(number: int, _frame: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    except BuildFailed as exc:
        again = shlex.join(["baremetal", *(word for word in sys.argv[1:] if word != "--shell-on-failure")])
        exc.fix = exc.fix.replace("baremetal image build …", again)
        raise
    except KeyboardInterrupt:
        render.note(
            "stopped; nothing is left running or mounted, and the same command goes on from the last whole layer"
        )
        raise
    finally:
        signal.signal(signal.SIGTERM, before)


@contextlib.contextmanager
def room(place: Path) -> Iterator[None]:
    """A full disk is told with the place it is full at."""
    from baremetal.images.errors import NoSpace

    try:
        yield
    except OSError as exc:
        if exc.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        there = next(path for path in (place, *place.absolute().parents) if path.exists())
        raise NoSpace(f"no space left for {place}", fix=f"make room: df -h {there}; nothing half-made is kept") from exc


def place_for(output: str) -> None:
    """UsageError before a build whose file could not be written."""
    parent = Path(output).absolute().parent
    if output and not (parent.is_dir() and os.access(parent, os.W_OK)):
        raise UsageError(f"-o {output}: no directory to write to: {parent}", fix=f"mkdir -p {parent}")


def options(
    elements_path: list[Path] | None,
    refresh: bool,
    offline: bool,
    until: str,
    shell_on_failure: bool,
    epoch: str,
    cache_dir: Path | None,
    timeout_s: float = 3600.0,
) -> Options:
    """How to build, from the command line and the environment disk-image-create reads."""
    from baremetal.images.builder import Options
    from baremetal.images.elements import directories

    breaks = [word for word in os.environ.get("break", "").split(",") if word]  # noqa: SIM112
    extra = [Path(p) for p in os.environ.get("ELEMENTS_PATH", "").split(":") if p]
    return Options(
        cache=cache(cache_dir),
        elements_path=(*directories(elements_path or []), *(path.resolve() for path in extra)),
        refresh=refresh,
        offline=offline or bool(os.environ.get("DIB_OFFLINE")),
        until=until,
        shell_on_failure=shell_on_failure or "after-error" in breaks,
        breaks=tuple(word for word in breaks if word != "after-error"),
        phase_timeout_s=timeout_s,
        private=private(),
        epoch=epoch or os.environ.get("SOURCE_DATE_EPOCH") or None,
    )


def private() -> tuple[Path, ...]:
    """What no script of a build needs to see of this machine: keys and sockets of the server."""
    from baremetal.config import Settings

    settings = Settings.load()
    return (settings.keys_dir, settings.run_dir)


def cache(given: Path | None) -> Path:
    """Where layers and built images lie."""
    if given:
        return given.resolve()
    from baremetal.config import Settings
    from baremetal.images import userns

    if os.geteuid() != 0 and "BAREMETAL_CACHE_DIR" not in os.environ:
        return userns.user_cache()

    return Settings.load().cache_dir


def store() -> ImageStore:
    """The image store of the settings; its signing key is made when it is missing."""
    from baremetal.config import Settings
    from baremetal.images import manifest
    from baremetal.images.store import ImageStore

    settings = Settings.load()
    key = settings.keys_dir / "image-signing.pem"
    if not key.exists() and os.access(settings.state_dir.parent, os.W_OK):
        manifest.make_key(settings.keys_dir)
    return ImageStore(settings.images_dir, signing_key=key)


def store_result(result: BuildResult, definition: Definition) -> StoredImage:
    """The built image in the store; nothing is done when this very build is there already."""
    kept = store()
    for image in kept.list():
        if image.properties.get("build") == result.id and image.name == result.name:
            return image
    properties = {**definition.properties, "build": result.id, "arch": "x86_64"}
    extras = {n: result.directory / n for n in EXTRAS if (result.directory / n).exists()}
    if result.kind == "ramdisk":
        kernel, initrd = result.directory / "kernel", result.directory / "initrd"
        return kept.add_ramdisk(kernel, initrd, name=result.name, properties=properties, extras=extras)
    with room(kept.root), Bar(f"{result.name}: store") as bar:
        return kept.add(result.path, name=result.name, properties=properties, extras=extras, progress=bar.bytes)


def deliver(result: BuildResult, classic: Classic) -> list[Path]:
    """Copies of the built files where -o says, with digests beside them when asked for."""
    if not classic.output or result.kind == "partial":
        return []
    stem = Path(classic.output)
    try:
        with room(stem):
            return _copies(result, classic, stem)
    except OSError as exc:
        raise MachineError(
            f"cannot write {exc.filename or stem}: {exc.strerror}",
            fix="choose another place with -o; the same command finds the image built",
        ) from exc


def _copies(result: BuildResult, classic: Classic, stem: Path) -> list[Path]:
    import shutil

    from baremetal.images.store import file_digest

    written = []
    for path in result.files:
        suffix = path.name.removeprefix(result.name)
        target = stem if stem.name.endswith(suffix) else Path(f"{stem}{suffix}")
        if result.kind == "ramdisk":
            target = Path(f"{stem}.{path.name}")
        try:
            shutil.copyfile(path, target)
        except OSError:
            if target.is_file():
                target.unlink()
            raise
        written.append(target)
    asked = "1" if classic.checksum else os.environ.get("DIB_CHECKSUM", "0")
    kinds = [kind for kind in ("md5", "sha256") if asked == "1" or kind in asked]
    if kinds:
        for target in list(written):
            for kind in kinds:
                sums = target.with_name(f"{target.name}.{kind}")
                sums.write_text(f"{file_digest(target, kind)}  {target.name}\n")
                written.append(sums)
    for path in result.directory.glob(f"{result.name}.*/"):
        shutil.copytree(path, f"{stem}{path.name.removeprefix(result.name)}", symlinks=True, dirs_exist_ok=True)
    return written


def say(result: BuildResult, written: list[Path], stored: StoredImage | None, as_json: bool) -> None:
    """The result, for people or programs."""
    if as_json:
        doc: dict[str, Any] = {"name": result.name, "build": result.id, "kind": result.kind, "cached": result.cached}
        doc |= {"path": str(result.path), "files": [str(p) for p in written or result.files]}
        doc |= {"seconds": round(result.seconds, 2), "cpu_s": round(result.cpu_s, 2), "warnings": result.warnings}
        doc |= {"ran": result.ran, "logs": str(result.log_dir) if result.log_dir else None}
        render.json_out({**doc, "image": stored.id if stored else None})
        return
    if result.kind == "partial":
        render.note(f"{result.name}: stopped where --until says, after {result.seconds:.1f} s; no image was made")
        print(result.path)
        return
    how = "nothing changed" if result.cached else f"built in {result.seconds:.1f} s ({result.cpu_s:.1f} s of CPU)"
    render.note(f"{result.name}: {how}")
    if result.ran:
        render.note("  " + ", ".join(f"{step} {seconds:.1f} s" for step, seconds in result.ran.items()))
        render.note(f"  logs in {result.log_dir}")
    for path in written or [result.path]:
        print(path)
    if stored:
        render.note(f"stored as {stored.name}, {stored.id[:19]}")


def dib(what: list[str], classic: Classic, elements_path: list[Path] | None) -> None:
    """The original disk-image-create; its exit code is ours."""
    from baremetal.images import dib

    raise typer.Exit(dib.run(what, vars(classic), elements_path or []))


def deleted_by_server(ref: str, force: bool) -> str | None:
    """The name of the image that the server deleted; None when none answers, or it knows no such image."""
    from baremetal.cli.client import Client
    from baremetal.errors import NotFound, Unreachable

    try:
        found = Client.default().delete(f"/api/images/{quote(ref, safe='')}", force=int(force))
    except (Unreachable, NotFound):
        return None
    return str(found["deleted"])


def users(image_id: str) -> list[str]:
    """Nodes that refer to an image, when no server answers: then nobody can say, which is an error."""
    from baremetal.cli.client import Client
    from baremetal.config import Settings, is_postgres
    from baremetal.errors import Unreachable
    from baremetal.images.errors import ImageInUse

    try:
        Client.default().get("/api/health")
    except Unreachable as exc:
        settings = Settings.load()
        if not is_postgres(settings.database) and not (settings.state_dir / "baremetal.db").exists():
            return []  # no server has ever run here
        raise ImageInUse(
            "nobody can say whether a node uses this image: the server does not answer",
            fix="start it (baremetal serve), or delete with --force",
        ) from exc
    return []  # the server answers, and does not know the image: nothing that it knows refers to it


def listed() -> list[dict[str, Any]]:
    """The images of the store; on a site of several servers those of all, with the servers that have them."""
    from baremetal.cli.client import Client
    from baremetal.config import Settings, is_postgres
    from baremetal.errors import BaremetalError

    here = [doc(image) for image in store().list()]
    if not is_postgres(Settings.load().database):
        return here
    try:
        known = {image["id"]: image for image in Client.default().get("/api/images")["images"]}
    except BaremetalError as exc:
        render.note(f"what other servers have is not known: {exc.brief}")
        return here
    found = [{**image, "on": known.pop(image["id"], {}).get("on", [])} for image in here]
    for image in known.values():
        away = {key: image.get(key) for key in ("name", "kind", "id", "created", "tags", "properties", "on")}
        found.append({**away, "size": image.get("bytes")})
    return sorted(found, key=lambda image: str(image["name"]))


def doc(image: StoredImage) -> dict[str, Any]:
    """A stored image as data."""
    doc: dict[str, Any] = {"name": image.name, "kind": image.kind, "id": image.id, "size": image.size}
    doc |= {"created": image.created, "tags": list(image.tags), "properties": image.properties}
    if image.manifest:
        zero = sum(chunk.zsize == 0 for chunk in image.manifest.chunks)
        doc |= {"raw_size": image.manifest.raw_size, "chunks": len(image.manifest.chunks), "zero_chunks": zero}
    return doc


def shown(image: StoredImage, as_json: bool) -> None:
    """What add says."""
    if as_json:
        render.json_out(doc(image))
    else:
        render.note(f"{image.name}: {render.size(image.size)}")
        print(image.id)


def pair(text: str) -> tuple[str, str]:
    """NAME=VALUE split in two."""
    name, sep, value = text.partition("=")
    if not sep:
        raise UsageError(f"{text!r} is not NAME=VALUE")
    return name, value


def number(value: object) -> float:
    """A number, 0 for anything else."""
    return float(value) if isinstance(value, int | float) else 0.0


def complete_stored(incomplete: str) -> list[str]:
    """Names of stored images for the shell."""
    try:
        return [image.name for image in store().list() if image.name.startswith(incomplete)]
    except (BaremetalError, OSError):
        return []


def complete_definitions(incomplete: str) -> list[str]:
    """Names of definitions for the shell."""
    from baremetal.images import catalog

    return [name for name in sorted(catalog.definitions()) if name.startswith(incomplete)]
