"""cloud-init's own readers against our endpoints and drives (ring peers).

BAREMETAL_PEER_CLOUD_INIT names a Python that can import cloudinit: Debian's
package unpacked aside, in a virtual environment with its dependencies.
"""

import http.server
import json
import os
import subprocess
import threading

import pytest

from baremetal.protocol import configdrive, imds

pytestmark = pytest.mark.peers
KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ operator"
USER_DATA = b"#cloud-config\nruncmd: [true]\n"
NETWORK = {
    "links": [{"id": "p", "type": "phy", "ethernet_mac_address": "52:54:00:00:00:01", "mtu": None, "vif_id": None}],
    "networks": [{"id": "n", "type": "ipv4_dhcp", "link": "p", "network_id": "x"}],
    "services": [],
}
INSTANCE = imds.Instance("id-1", "r1-u07", "10.0.0.7", {"me": KEY}, {"role": "web"}, USER_DATA, NETWORK)

READERS = """
import json, sys
from cloudinit import util
from cloudinit.sources import DataSourceConfigDrive
from cloudinit.sources.helpers import ec2, openstack
url, drive, seed = sys.argv[1:]
clouds = openstack.MetadataReader(url).read_v2()
on_drive = DataSourceConfigDrive.read_config_drive(drive)
nocloud = util.pathprefix2dict(seed, required=["user-data", "meta-data"])
print(json.dumps({
    "ec2": ec2.get_instance_metadata("2009-04-04", url),
    "ec2_user_data": ec2.get_instance_userdata("2009-04-04", url).decode(),
    "openstack": clouds["metadata"],
    "network": openstack.convert_net_json(clouds["networkdata"], {"52:54:00:00:00:01": "eth0"}),
    "drive": on_drive["metadata"],
    "drive_user_data": on_drive["userdata"].decode(),
    "nocloud": util.load_yaml(nocloud["meta-data"]),
}))
"""


@pytest.fixture
def url():
    table = imds.table(INSTANCE)

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            body = table.get(self.path)
            self.send_response(404 if body is None else 200)
            self.end_headers()
            self.wfile.write(body or b"")

        def log_message(self, *arguments):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()


def put(directory, files):
    for name, body in files.items():
        (directory / name).parent.mkdir(parents=True, exist_ok=True)
        (directory / name).write_bytes(body)
    return directory


def test_cloud_init_reads_all_our_layouts(tmp_path, url):
    python = os.environ.get("BAREMETAL_PEER_CLOUD_INIT")
    assert python, "set BAREMETAL_PEER_CLOUD_INIT to a Python that can import cloudinit"
    drive = put(tmp_path / "drive", configdrive.read(configdrive.build(imds.drive_files(INSTANCE))))
    seed = put(tmp_path / "seed", imds.nocloud_files(INSTANCE))
    done = subprocess.run([python, "-c", READERS, url, drive, seed], capture_output=True, text=True)
    found = json.loads(done.stdout or "null")
    assert found, done.stderr
    assert found["ec2"]["instance-id"] == found["openstack"]["uuid"] == found["drive"]["uuid"] == "id-1"
    assert found["nocloud"] == {"instance-id": "id-1", "local-hostname": "r1-u07", "public-keys": [KEY]}
    assert (
        found["ec2"]["public-keys"] == found["openstack"]["public_keys"] == found["drive"]["public_keys"] == {"me": KEY}
    )
    assert found["ec2_user_data"] == found["drive_user_data"] == USER_DATA.decode()
    assert found["network"]["config"][0]["subnets"] == [{"type": "dhcp4"}]
