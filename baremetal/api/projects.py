"""What accounts with a project may ask: routes about one node (of theirs), and lists that are filtered for them."""

from __future__ import annotations

# Lists and creations that look at scope["baremetal.project"] themselves.
FILTERED = frozenset(
    {
        ("GET", "/v1/nodes"),
        ("GET", "/v1/nodes/detail"),
        ("POST", "/v1/nodes"),
        ("GET", "/v1/ports"),
        ("GET", "/v1/ports/detail"),
        ("POST", "/v1/ports"),
        ("GET", "/v1/allocations"),
        ("POST", "/v1/allocations"),
        ("GET", "/v1/drivers"),
        ("GET", "/api/nodes"),
        ("GET", "/api/images"),
        ("GET", "/api/openapi.json"),
    }
)
PREFIXES = ("/v1/ports/", "/v1/allocations/", "/v1/drivers/")  # members are looked up under the same filter
COLLECTIONS = frozenset({"detail", "import"})
# What a lessee may ask of a node besides looking: the path behind the node's name.
LESSEE = frozenset({"power", "states/power", "states/provision", "verbs/deploy", "verbs/undeploy", "verbs/rebuild"})


def node_in(path: str) -> str | None:
    """The node a path (unquoted once, as routes see it) is about."""
    for prefix in ("/v1/nodes/", "/api/nodes/"):
        if path.startswith(prefix):
            ref = path[len(prefix) :].split("/", 1)[0]
            return ref if ref and ref not in COLLECTIONS else None
    return None


def filtered(method: str, path: str) -> bool:
    """Does this route filter by project itself?"""
    path = path.rstrip("/")
    return (method, path) in FILTERED or (method in ("GET", "DELETE", "PATCH") and path.startswith(PREFIXES))


def lessee_may(method: str, path: str) -> bool:
    """Look, use power, deploy and release."""
    return method in ("GET", "HEAD") or path.rstrip("/").split("/", 4)[-1] in LESSEE
