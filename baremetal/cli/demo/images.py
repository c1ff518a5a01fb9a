"""The demo's two images: built when their inputs changed, added to the lab's image store, else only looked up."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from baremetal.errors import NotFound

if TYPE_CHECKING:
    from baremetal.cli.demo.run import Demo
    from baremetal.cli.demo.view import View
    from baremetal.images.builder import BuildResult, Options
    from baremetal.images.definition import Definition
    from baremetal.images.store import ImageStore

MADE_FROM = "made-from"
"""Property of a stored image: the id of the build that it was made from."""


def known(demo: Demo) -> None:
    """Raise, before anything is built, when there is no such definition."""
    for name in (demo.options.ramdisk, demo.options.image):
        if not (file := definition_file(name)).is_file():
            there = ", ".join(sorted(path.stem for path in file.parent.glob("*.toml")))
            raise NotFound(f"there is no image definition {name!r}", fix=f"one of {there}")


def prepare(demo: Demo, show: View) -> None:
    """Site keys, deploy ramdisk and golden image, ready in the lab's image store."""
    from baremetal.config import Settings
    from baremetal.images.builder import Options
    from baremetal.images.store import ImageStore
    from baremetal.lab.site import config_text
    from baremetal.lab.spec import RackSpec
    from baremetal.serve.init import initialise

    demo.config.write_text(config_text(RackSpec(), demo.options.lab_dir, demo.options.cache_dir))
    settings = Settings.load(demo.config)
    initialise(settings)
    store = ImageStore(settings.images_dir, signing_key=settings.keys_dir / "image-signing.pem")
    options = Options(cache=settings.cache_dir, private=(settings.keys_dir, settings.run_dir))
    for name in (demo.options.ramdisk, demo.options.image):
        _prepare(name, store, options, show)


def _prepare(name: str, store: ImageStore, options: Options, show: View) -> None:
    from baremetal.images import builder

    show.begin(f"image {name}", f"baremetal image build {name}")
    last = ""

    def progress(step: str, script: str, fraction: float) -> None:
        nonlocal last
        if step != last:
            last = step
            show.say(f"    {name}: {step} {script} ({fraction:.0%})")

    built = builder.build(_definition(name), options, progress)
    note = "cached, nothing built" if built.cached else f"built in {built.seconds:.0f} s"
    if not any(i.name == name and i.properties.get(MADE_FROM) == built.id for i in store.list()):
        _add(name, built, store)
    show.end(note)


def _add(name: str, built: BuildResult, store: ImageStore) -> None:
    properties = {**_definition(name).properties, MADE_FROM: built.id}
    if built.kind == "ramdisk":
        store.add_ramdisk(built.directory / "kernel", built.directory / "initrd", name=name, properties=properties)
    else:
        store.add(built.path, name=name, properties=properties)


def _definition(name: str) -> Definition:
    from baremetal.images import definition

    return definition.load(definition_file(name))


def definition_file(name: str) -> Path:
    """Where the definition of that name would be."""
    from baremetal.paths import share_dir

    return share_dir("images") / f"{name}.toml"


def remove_tree(path: Path) -> None:
    """Remove a directory of a lab that is down; not there is fine."""
    shutil.rmtree(path, ignore_errors=True)
