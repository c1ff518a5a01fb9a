"""In a mount namespace: a whole agent whose disk fills up under it. Prints what it reported."""

import json
import subprocess
import sys
import threading
from pathlib import Path

REPO = Path(__file__).parents[3]
sys.path[:0] = [str(REPO), str(REPO / "tests/unit/agents")]

from conftest_agents import Machine, Server, until  # noqa: E402


def main(scratch):
    server_dir, node = Path(scratch) / "server", Path(scratch) / "node"
    server_dir.mkdir()
    node.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(node)], check=True)
    server, machine = Server(server_dir), Machine(node)
    machine.template("etc/motd", "{{greeting}}\n")
    machine.template("etc/other", "{{greeting}} {{#pad}}{{.}}{{/pad}}\n")
    machine.script("configure.d/50-fill", f"[ ! -e {node}/fill ] || dd if=/dev/zero of={node}/filled bs=1k 2>&1\n")
    found = {}
    try:
        server.publish(1, {"greeting": "one"})
        machine.start(server.drive())
        until(lambda: server.reports(), machine.log)
        (node / "fill").touch()
        server.publish(2, {"greeting": "two", "pad": ["x" * 20000]})
        report = until(lambda: next((r for r in server.reports() if r["metadata_generation"] == 2), None), machine.log)
        found["full"] = [report["outcome"], (report["fault"] or {}).get("brief"), machine.out("etc/motd")]
        (node / "fill").unlink()
        (node / "filled").unlink(missing_ok=True)
        server.publish(3, {"greeting": "three"})
        report = until(
            lambda: next((r for r in server.reports() if r["metadata_generation"] == 3), None), machine.log, 60
        )
        found["again"] = [report["outcome"], machine.out("etc/motd"), machine.out("etc/other")]
        found["left"] = sorted(p.name for p in (node / "out/etc").iterdir())
    finally:
        found["log"] = machine.log()
        machine.stop(9)
        print(json.dumps(found))
        sys.stdout.flush()
        threading.Timer(2, lambda: __import__("os")._exit(0)).start()
        server.stop()


if __name__ == "__main__":
    main(sys.argv[1])
