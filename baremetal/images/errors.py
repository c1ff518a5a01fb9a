"""What can go wrong while an image is built, stored or read."""

from __future__ import annotations

from baremetal.errors import BaremetalError, MachineError, NotFound, Refused, UsageError


class BadDefinition(UsageError):
    """An image definition that cannot be understood."""

    code = "image-definition"


class BadElement(UsageError):
    """An element that is missing, circular, or collides with another."""

    code = "image-element"


class ElementNotFound(NotFound):
    """No directory on the elements path has this name."""

    code = "image-element-missing"


class BuildFailed(BaremetalError):
    """A phase of the build failed; says element, phase, script and last lines."""

    code = "image-build"


class NoSpace(BuildFailed):
    """The file system of the cache is full."""

    code = "image-no-space"


class ToolMissing(MachineError):
    """A program or file of this machine that the build needs."""

    code = "image-tool"


class CacheRefused(MachineError):
    """A cache directory that is not ours alone, or cannot be made."""

    code = "image-cache"


class NoMirror(MachineError):
    """Neither apt nor the environment names a Debian mirror."""

    code = "image-no-mirror"


class DiskTooSmall(UsageError):
    """The tree does not fit the disk that was asked for."""

    code = "image-too-large"


class BadImage(UsageError):
    """A file that is not the image it claims to be, or not one we open."""

    code = "image-bad"


class ImageNotFound(NotFound):
    """No stored image has this name or id."""

    code = "image-missing"


class ImageCorrupt(BaremetalError):
    """A stored image no longer matches its manifest."""

    code = "image-corrupt"


class ImageInUse(Refused):
    """A node refers to this image."""

    code = "image-in-use"
