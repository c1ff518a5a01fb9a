"""Is an image on this server? With several servers it may be on another one, and on its way."""

from __future__ import annotations

from typing import Any

from baremetal.errors import BaremetalError

RETRY_S = 3.0  # a deploy that waits for an image looks again


class ImageElsewhere(BaremetalError):
    """Another server has the image; it is on its way, or could not be fetched (`failed`)."""

    code = "image-elsewhere"
    failed = False


def need(images: Any, image: Any) -> None:
    """ImageElsewhere unless the image is on this server; it is fetched then (workflows/imageshare.py)."""
    if ask := getattr(images, "need", None):
        ask(image)
