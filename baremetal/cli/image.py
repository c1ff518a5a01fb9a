"""`baremetal image`: build, plan, list, show, add, verify, delete, export, diff, tag, lock, cache."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from baremetal.cli import imagework as work
from baremetal.cli import render
from baremetal.cli.imagebar import Bar
from baremetal.cli.listing import Listed, listing
from baremetal.cli.words import Json
from baremetal.errors import Refused, UsageError

app = typer.Typer(no_args_is_help=True, help="Golden images: build, add, list, show, delete.")
cache_app = typer.Typer(no_args_is_help=True, help="Layers kept between builds.")
app.add_typer(cache_app, name="cache")

Target = Annotated[
    list[str],
    typer.Argument(
        metavar="IMAGE|ELEMENT...", help="A definition, or elements.", autocompletion=work.complete_definitions
    ),
]
Paths = Annotated[
    list[Path] | None, typer.Option("--elements-path", "-E", help="Where elements are looked for first; repeat it.")
]
Opt = Annotated[list[str] | None, typer.Option("--option", "-O", metavar="NAME=VALUE", help="Option of a definition.")]
Ref = Annotated[
    str,
    typer.Argument(metavar="IMAGE", help="Name, tag or id in the store.", autocompletion=work.complete_stored),
]


@app.command()
def build(
    what: Target,
    output: Annotated[str, typer.Option("-o", help="Write the image to this file (name without suffix).")] = "",
    arch: Annotated[str, typer.Option("-a", help="Architecture.")] = "amd64",
    types: Annotated[str, typer.Option("-t", help="Formats: qcow2,raw,raw.zst,tar,tgz,squashfs.")] = "",
    packages: Annotated[list[str] | None, typer.Option("-p", help="Extra packages, comma separated.")] = None,
    trace: Annotated[int, typer.Option("-x", count=True, help="Trace the scripts.")] = 0,
    no_base: Annotated[bool, typer.Option("-n", help="Without the element `base`.")] = False,
    clear: Annotated[bool, typer.Option("-c", help="Accepted; scripts get a clean environment always.")] = False,
    uncompressed: Annotated[bool, typer.Option("-u", help="Uncompressed qcow2.")] = False,
    image_size: Annotated[str, typer.Option("--image-size", help="Size of the disk in GB.")] = "",
    root_label: Annotated[str, typer.Option("--root-label", help="Label of the root file system.")] = "",
    install_type: Annotated[str, typer.Option("--install-type", help="source or package.")] = "",
    qemu_img_options: Annotated[
        str, typer.Option("--qemu-img-options", help="compression_type=zstd|zlib,cluster_size=BYTES")
    ] = "",
    checksum: Annotated[bool, typer.Option("--checksum", help=".md5 and .sha256 beside each file of -o.")] = False,
    extra_size: Annotated[str, typer.Option("--image-extra-size", help="Free space on the disk in GB.")] = "",
    logfile: Annotated[Path | None, typer.Option("--logfile", help="Every script's output, in one file.")] = None,
    no_tmpfs: Annotated[bool, typer.Option("--no-tmpfs", help="Accepted; builds are on disk always.")] = False,
    min_tmpfs: Annotated[str, typer.Option("--min-tmpfs", hidden=True)] = "",
    mkfs_options: Annotated[str, typer.Option("--mkfs-options", help="Options of mkfs for the root.")] = "",
    journal_size: Annotated[str, typer.Option("--mkfs-journal-size", help="Journal of an ext4 root in MiB.")] = "",
    max_online_resize: Annotated[
        str, typer.Option("--max-online-resize", metavar="BLOCKS", help="How far an ext4 root can grow while in use.")
    ] = "",
    ramdisk_element: Annotated[str, typer.Option("--ramdisk-element", hidden=True)] = "",
    docker_target: Annotated[str, typer.Option("--docker-target", hidden=True)] = "",
    original: Annotated[
        list[str] | None, typer.Option("--dib", metavar="WORD", help="Passed on to the original; with --engine dib.")
    ] = None,
    elements_path: Paths = None,
    option: Opt = None,
    engine: Annotated[str, typer.Option("--engine", help="own, or dib: the original disk-image-create.")] = "own",
    add_image: Annotated[bool | None, typer.Option("--add/--no-add", help="Put it into the image store.")] = None,
    refresh: Annotated[bool, typer.Option("--refresh", help="Ask the mirror for news now.")] = False,
    offline: Annotated[bool, typer.Option("--offline", help="Ask no mirror; use what is cached.")] = False,
    until: Annotated[str, typer.Option("--until", metavar="PHASE", help="Stop after this phase.")] = "",
    shell_on_failure: Annotated[bool, typer.Option("--shell-on-failure", help="A shell where it failed.")] = False,
    cache_limit: Annotated[
        str, typer.Option("--cache-limit", envvar="BAREMETAL_IMAGE_CACHE_LIMIT", help="Prune the cache to this after.")
    ] = "20GiB",
    unconfined: Annotated[
        bool, typer.Option("--unconfined", help="Scripts outside the tree may write to this machine's files.")
    ] = False,
    timeout: Annotated[float, typer.Option("--timeout", metavar="SECONDS", help="Longest time of a phase.")] = 3600.0,
    epoch: Annotated[str, typer.Option("--epoch", help="SOURCE_DATE_EPOCH: the date of everything.")] = "",
    cache_dir: Annotated[
        Path | None, typer.Option("--cache-dir", "--image-cache", help="Layers and built images.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Build an image from a definition, or from elements as disk-image-create does."""
    from baremetal.images import builder, userns
    from baremetal.images.sizes import parse_size

    classic = work.Classic(
        output=output,
        arch=arch,
        types=types,
        packages=packages or [],
        trace=trace,
        no_base=no_base,
        uncompressed=uncompressed,
        image_size=image_size,
        root_label=root_label,
        install_type=install_type,
        qemu_img_options=qemu_img_options,
        checksum=checksum,
        extra_size=extra_size,
        mkfs_options=mkfs_options,
        journal_mib=journal_size,
        max_online_resize=max_online_resize,
        original=[
            *(original or []),
            *work.for_the_original({"--ramdisk-element": ramdisk_element, "--docker-target": docker_target}),
            *(work.for_the_original({"--min-tmpfs": min_tmpfs, "--logfile": logfile}) if engine == "dib" else []),
            *(["--no-tmpfs"] if no_tmpfs and engine == "dib" else []),
        ],
    )
    if engine not in ("own", "dib"):
        raise UsageError(f"no engine {engine!r}", fix="own or dib")
    if engine == "dib":
        work.dib(what, classic, elements_path)
        return
    definition = work.definition(what, option, classic)
    options = work.options(elements_path, refresh, offline, until, shell_on_failure, epoch, cache_dir, timeout)
    options = dataclasses.replace(options, confined=not unconfined, cache_limit_bytes=parse_size(cache_limit))
    work.place_for(output)
    userns.enter()
    bar = Bar(definition.name, plain=options.shell_on_failure or bool(options.breaks))
    with work.told(), work.definitions_told(what), work.one_log(options.cache / "logs" / definition.name, logfile), bar:
        result = builder.build(definition, options, bar.step)
    for warning in result.warnings:
        render.note(f"warning: {warning}")
    written = work.deliver(result, classic)
    keep = add_image if add_image is not None else (not output and not until and userns.initial())
    stored = work.store_result(result, definition) if keep and result.kind != "partial" else None
    work.say(result, written, stored, as_json)


@app.command()
def plan(
    what: Target,
    output: Annotated[str, typer.Option("-o", help="As for build: gives elements their image's name.")] = "",
    types: Annotated[str, typer.Option("-t", help="Formats.")] = "",
    packages: Annotated[list[str] | None, typer.Option("-p", help="Extra packages, comma separated.")] = None,
    image_size: Annotated[str, typer.Option("--image-size", help="Size of the disk in GB.")] = "",
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

    classic = work.Classic(output=output, types=types, packages=packages or [], image_size=image_size, no_base=no_base)
    definition = work.definition(what, option, classic)
    options = work.options(elements_path, refresh, offline, "", False, "", cache_dir)
    with work.definitions_told(what):
        rows = builder.explain(definition, options)
    if as_json:
        render.json_out({"image": definition.name, "steps": rows})
        return
    for row in rows:
        row["does"] = "reuse" if row["cached"] else "run"
        row["scripts"] = len(row["scripts"]) if isinstance(row["scripts"], list) else 0
        row["size"] = render.size(work.number(row.get("size"))) if row["cached"] else ""
    render.table(rows, ["step", "does", "scripts", "size", "why"])


@app.command("list")
@listing
def list_images(listed: Listed) -> None:
    """Images in the store, and definitions that can be built."""
    from baremetal.images import catalog

    def row(doc: Mapping[str, Any]) -> dict[str, Any]:
        return {"id": str(doc["id"]).rpartition(":")[2][:12], "size": render.size(work.number(doc["size"]))}

    definitions = sorted(catalog.definitions())
    images = work.listed()
    doc = {"images": images, "definitions": definitions}
    empty = "no images in the store; make one: baremetal image build NAME"
    columns = ["name", "kind", "id", "size", "created", "tags", *(["on"] if any("on" in one for one in images) else [])]
    listed.show(doc, "images", columns, row=row, empty=empty)
    if not (listed.as_json or listed.no_header):
        render.note(f"definitions: {', '.join(definitions)}")


@app.command()
def show(ref: Ref, as_json: Json = False) -> None:
    """One stored image."""
    image = work.store().get(ref)
    doc = work.doc(image)
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
    properties = dict(work.pair(text) for text in prop or [])
    store = work.store()
    with work.room(store.root), Bar(title) as bar, fetch.opened(source, sha256) as given:
        image = store.add(given, name=title, properties=properties, sha256=sha256, progress=bar.bytes)
    work.shown(image, as_json)


@app.command("add-ramdisk")
def add_ramdisk(
    kernel: Annotated[Path, typer.Argument(help="A kernel that the boot loader can start.")],
    initrd: Annotated[Path, typer.Argument(help="Its initial ramdisk, with the whole system.")],
    name: Annotated[str, typer.Option("--name", help="Name in the store.")],
    cmdline: Annotated[str, typer.Option(help="Kernel arguments.")] = "console=ttyS0,115200",
    arch: Annotated[str, typer.Option(help="Architecture of the machines that can run it.")] = "x86_64",
    prop: Annotated[list[str] | None, typer.Option("--property", metavar="NAME=VALUE", help="Repeat it.")] = None,
    as_json: Json = False,
) -> None:
    """Take a kernel and ramdisk into the store: a system that nodes run from memory, without a disk."""
    properties = {"use": "diskless", "cmdline": cmdline, "arch": arch} | dict(work.pair(text) for text in prop or [])
    work.shown(work.store().add_ramdisk(kernel, initrd, name=name, properties=properties), as_json)


@app.command()
def verify(ref: Ref, as_json: Json = False) -> None:
    """Check signature and every chunk of a stored image."""
    from baremetal.config import Settings
    from baremetal.images import manifest

    key = Settings.load().keys_dir / "image-signing.pem"
    image = work.store().verify(ref, manifest.public_hex(key) if key.exists() else "")
    if as_json:
        render.json_out({"id": image.id, "name": image.name, "sound": True})
    else:
        render.note(f"{image.name}: sound")


@app.command()
def delete(
    ref: Ref,
    force: Annotated[bool, typer.Option("--force", help="Also when a node refers to it.")] = False,
    as_json: Json = False,
) -> None:
    """Remove an image no node refers to, on every server of the site."""
    name = work.deleted_by_server(ref, force)
    if name is None:
        name = (work.store().delete(ref) if force else work.store().delete(ref, used_by=work.users)).name
    render.json_out({"deleted": name}) if as_json else render.note(f"{name} deleted")


@app.command()
def export(
    ref: Ref,
    target: Annotated[Path, typer.Argument(metavar="FILE", help="Where to write it.")],
    as_json: Json = False,
) -> None:
    """Write a stored image as a raw disk (a ramdisk: kernel and initrd into a directory)."""
    with work.room(target):
        path = work.store().export(ref, target)
    render.json_out({"wrote": str(path)}) if as_json else render.note(f"wrote {path}")


@app.command()
def tag(ref: Ref, tags: Annotated[list[str], typer.Argument(metavar="TAG...")], as_json: Json = False) -> None:
    """Give an image more names; a tag names one image at a time."""
    image = work.store().tag(ref, *tags)
    render.json_out(work.doc(image)) if as_json else render.note(f"{image.name}: {', '.join(image.tags)}")


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

    found = compare.builds(
        compare.locate(a, work.cache(cache_dir)), compare.locate(b, work.cache(cache_dir)), files=files
    )
    if as_json:
        render.json_out(found.document())
    else:
        for line in found.lines():
            print(line)
    if found:
        raise typer.Exit(1)


@app.command()
def lock(
    what: Annotated[
        str, typer.Argument(metavar="IMAGE", help="A definition.", autocompletion=work.complete_definitions)
    ],
    cache_dir: Annotated[Path | None, typer.Option("--cache-dir", help="Layers and built images.")] = None,
    as_json: Json = False,
) -> None:
    """Pin the package versions of the last build beside the definition."""
    from baremetal.images import catalog, lockfile

    path = lockfile.write(catalog.find(what), work.cache(cache_dir))
    told = f"wrote {path}; builds use it from now on, remove it to go on with the mirror"
    render.json_out({"wrote": str(path)}) if as_json else render.note(told)


@cache_app.command("list")
@listing
def cache_list(listed: Listed, cache_dir: Annotated[Path | None, typer.Option("--cache-dir")] = None) -> None:
    """Layers, least recently used first; their sizes on the disk."""
    from baremetal.images import prune
    from baremetal.images.layers import LayerStore

    place = work.cache(cache_dir)
    layers = [
        {"layer": one.key, "phase": one.phase, "image": one.image, "size": one.room or one.size, "used": one.used}
        for one in LayerStore(place).list()
    ]
    totals = prune.totals(place)

    def row(layer: Mapping[str, Any]) -> dict[str, Any]:
        return {"size": render.size(work.number(layer["size"])), "used": render.ago(work.number(layer["used"]))}

    columns = ["layer", "phase", "image", "size", "used"]
    listed.show({"layers": layers, "totals": totals}, "layers", columns, row=row, empty="no layers")
    if not (listed.as_json or listed.no_header):
        render.note(", ".join(f"{kind} {render.size(size)}" for kind, size in totals.items()))


@cache_app.command("verify")
def cache_verify(
    cache_dir: Annotated[Path | None, typer.Option("--cache-dir", help="Layers and built images.")] = None,
    as_json: Json = False,
) -> None:
    """Read every byte that is kept; what is damaged is removed, and made again by the next build. Exit code 1 then."""
    from baremetal.images import verify

    place = work.cache(cache_dir)
    with Bar(str(place)) as bar:
        found = verify.verify(place, bar.step)
    if found is None:
        raise Refused("a build is running on this cache", fix="try again when it has finished")
    if as_json:
        render.json_out({"damaged": [dataclasses.asdict(one) for one in found]})
    elif found:
        render.table([dataclasses.asdict(one) for one in found], ["kind", "name", "image"])
        render.note("damaged, and removed: the next build makes them again")
    else:
        render.note("all is as it was kept")
    if found:
        raise typer.Exit(1)


@cache_app.command("prune")
def cache_prune(
    limit: Annotated[str, typer.Option("--limit", help="Keep at most this much, newest first.")] = "10GiB",
    cache_dir: Annotated[Path | None, typer.Option("--cache-dir", help="Layers and built images.")] = None,
    as_json: Json = False,
) -> None:
    """Remove the least recently used layers, images and packages until the cache takes less of the disk than a size."""
    from baremetal.images import prune
    from baremetal.images.sizes import parse_size, show_size

    freed = prune.prune(work.cache(cache_dir), parse_size(limit))
    if freed < 0:
        raise Refused("a build is running on this cache", fix="try again when it has finished")
    render.json_out({"freed_bytes": freed}) if as_json else render.note(f"freed {show_size(freed)}")
