"""With several servers, the boot script and the agent's answers follow control's lease."""

from __future__ import annotations

import time

from baremetal.boot import ipxe
from baremetal.bootplane.standing import Standing
from baremetal.serve.loaders import read_templates


def test_the_ramdisk_is_told_every_server_this_one_first() -> None:
    standing = Standing(shared=True)
    standing.told({"for_s": 4, "now": time.time(), "agents": ["https://10.0.0.1:8443", "https://10.0.0.2:8443"]})
    values = {
        "http": "http://10.0.0.2:8080",
        "https": standing.agents_from("https://10.0.0.2:8443"),
        "mac": "52:54:00:00:00:01",
        "mac_hyphens": "52-54-00-00-00-01",
        "name": "n1",
        "nonce": "x",
        "kernel": "k",
        "initrd": "i",
        "cmdline": "",
        "because": "",
        "script_url": "http://10.0.0.2:8080/boot/x.ipxe",
    }
    text = ipxe.render_values(read_templates()["ramdisk.ipxe.j2"], values)
    assert "baremetal.url=https://10.0.0.2:8443,https://10.0.0.1:8443 " in text


def test_one_server_needs_nobodys_word() -> None:
    standing = Standing()
    assert standing.good()
    assert standing.agents_from("https://a:1") == "https://a:1"
    assert abs(standing.time() - time.time()) < 10
