"""When a pass runs: the port, and the adapter for one server. What a pass does is workflows/."""

from baremetal.engine.clock import Clock
from baremetal.engine.embedded import EmbeddedEngine
from baremetal.engine.port import Engine, EngineStats

__all__ = ["Clock", "EmbeddedEngine", "Engine", "EngineStats"]
