"""In namespaces of its own: Debian's cloud-init over this system, our boot plane on 169.254.169.254.

cloudinit_world.py TREE SCRATCH: TREE holds the unpacked Debian packages of
cloud-init and what it needs. Prints per source what cloud-init made of it.
"""

import asyncio
import dataclasses
import json
import os
import shutil
import subprocess
import sys
import threading
from pathlib import Path

from aiohttp import web

from baremetal.bootplane.app import make_apps
from baremetal.bootplane.link import Link
from baremetal.bootplane.spool import Spool
from baremetal.bootplane.state import State
from baremetal.model.boot import BootRecord, Purpose
from baremetal.protocol import imds
from baremetal.protocol.plane import NodeView, Snapshot

ADDRESS = "169.254.169.254"
CLOUD = "/run/cloud"
KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ operator"
CONFIG = """
disable_root: false
users: []
preserve_hostname: false
ssh_genkeytypes: [ed25519]
manage_etc_hosts: false
datasource_list: [{source}]
datasource:
  Ec2: {{strict_id: false, metadata_urls: ["http://{address}"], timeout: 5, max_wait: 10}}
  OpenStack: {{metadata_urls: ["http://{address}"], timeout: 5, max_wait: 10, apply_network_config: false}}
cloud_init_modules: [set_hostname, ssh]
cloud_config_modules: []
cloud_final_modules: []
system_info: {{distro: debian, paths: {{cloud_dir: {cloud}/, templates_dir: /etc/cloud/templates/}}}}
"""


def run(*words, check=True):
    done = subprocess.run(words, capture_output=True, text=True)
    assert not check or done.returncode == 0, f"{words}: {done.stdout}{done.stderr}"
    return done.stdout


class Plane:
    """The boot plane's plain HTTP application for one deployed node that asks from ADDRESS."""

    def __init__(self, scratch):
        record = BootRecord("id-1", "r1-u07", ("52:54:00:00:00:01",), None, Purpose.DISK, "active", address=ADDRESS)
        values = {"ssh": {"keys": {"me": KEY}}}
        document = json.dumps({"schema": 1, "node": "id-1", "metadata_generation": 1, "values": values})
        metadata = {"generation": 1, "document": document, "signature": ""}
        view = NodeView("id-1", "r1-u07", dataclasses.asdict(record), metadata=metadata)
        self.state = State()
        self.state.load(1, Snapshot(nodes=[view.to_json()]))
        self.link = Link(Path(scratch) / "none.sock", self.state, Spool(Path(scratch) / "spool.jsonl"))
        self.up = threading.Event()
        threading.Thread(target=lambda: asyncio.run(self.serve()), daemon=True).start()
        assert self.up.wait(60)

    async def serve(self):
        apps = make_apps(self.state, self.link, templates={}, loaders={}, https_port=8443)
        runner = web.AppRunner(apps.http)
        await runner.setup()
        await web.TCPSite(runner, ADDRESS, 80).start()
        self.up.set()
        await asyncio.Event().wait()


def hide(scratch):
    """What cloud-init writes goes to memory: /etc is a copy; /run, /root and /var/log are empty, so no D-Bus either."""
    run("cp", "-a", "/etc", f"{scratch}/etc")
    for place in ("etc", "run", "root", "var/log"):
        run("mount", "-t", "tmpfs", "tmpfs", f"/{place}")
    run("cp", "-a", f"{scratch}/etc/.", "/etc")


def put(directory, files):
    for name, body in files.items():
        (directory / name).parent.mkdir(parents=True, exist_ok=True)
        (directory / name).write_bytes(body)


def ask(tree, source, seed):
    """Run cloud-init with this source alone; what it found."""
    for place in (CLOUD, "/run/cloud-init", "/root/.ssh", "/etc/cloud"):
        shutil.rmtree(place, ignore_errors=True)
    Path("/etc/cloud").mkdir()
    Path("/etc/cloud/cloud.cfg").write_text(CONFIG.format(source=source, address=ADDRESS, cloud=CLOUD))
    for place, files in seed.items():
        put(Path(CLOUD) / "seed" / place, files)
    path = "/usr/sbin:/usr/bin:/sbin:/bin"
    env = {"PATH": path, "LC_ALL": "C.UTF-8", "PYTHONPATH": f"{tree}/usr/lib/python3/dist-packages"}
    said = ""
    for stage in (["init", "--local"], ["init"]):
        words = ["/usr/bin/python3", f"{tree}/usr/bin/cloud-init", *stage]
        done = subprocess.run(words, capture_output=True, text=True, env=env, timeout=180)
        said += done.stdout[-1500:] + done.stderr[-1500:]
    data, keys, status = (
        Path(p)
        for p in ("/run/cloud-init/instance-data.json", "/root/.ssh/authorized_keys", "/run/cloud-init/status.json")
    )
    found = json.loads(data.read_text())["v1"] if data.exists() else {}
    return {
        "instance": found.get("instance_id"),
        "hostname": Path("/etc/hostname").read_text().strip(),
        "keys": found.get("public_ssh_keys"),
        "written": keys.exists() and KEY in keys.read_text(),
        "source": json.loads(status.read_text())["v1"]["datasource"] if status.exists() else None,
        "said": said,
    }


def main(tree, scratch):
    run("mount", "--make-rprivate", "/")
    for words in ("link set lo up", f"addr add {ADDRESS}/32 dev lo"):
        run("ip", *words.split())
    plane = Plane(scratch)
    hide(scratch)
    instance = imds.Instance("id-1", "r1-u07", ADDRESS, {"me": KEY})
    print(
        json.dumps(
            {
                "NoCloud": ask(tree, "NoCloud", {"nocloud": imds.nocloud_files(instance)}),
                "ConfigDrive": ask(tree, "ConfigDrive", {"config_drive": imds.drive_files(instance)}),
                "Ec2": ask(tree, "Ec2", {}),
                "OpenStack": ask(tree, "OpenStack", {}),
            }
        )
    )
    assert plane.state.version == 1
    os._exit(0)  # the plane's thread has no end


if __name__ == "__main__":
    sys.stdout.reconfigure(line_buffering=True)
    main(sys.argv[1], sys.argv[2])
