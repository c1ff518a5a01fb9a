"""Why a source gives nothing."""

from __future__ import annotations

from baremetal.errors import BaremetalError


class Unavailable(BaremetalError):
    """The source should answer and does not: logged, tried again, its last good copy stays."""

    code = "collect-unavailable"


class NotConfigured(BaremetalError):
    """Nobody said where this source is: passed over without a word."""

    code = "collect-not-configured"


class BadConfig(BaremetalError):
    """The collector's own configuration cannot be read."""

    code = "collect-config"
