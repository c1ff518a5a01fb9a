"""A command that waits outlives a restart of the server: the node goes on, so does whoever watches it."""

import os
import signal
import subprocess
import sys
import time

import pytest

SILENT = "ipmi://admin@192.168.91.77"  # nobody is there

pytestmark = pytest.mark.integration


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_wait_goes_on_over_a_restart_of_control(make_site, number):
    site = make_site()
    site.serve()
    site.env["BAREMETAL_BMC_PASSWORD"] = "of nobody"
    said = site.root / "said"
    argv = site.command(sys.executable, "-m", "baremetal", "node", "enroll", "n1", "--bmc", SILENT, "--wait")
    with said.open("w") as err:
        waiting = subprocess.Popen(argv, env=site.env, stdout=err, stderr=err)
    try:
        site.until(lambda: "n1:" in said.read_text())
        time.sleep(1)  # it now stands in a held request
        os.kill(site.pid("serve.control"), number)
        site.until(lambda: "asking again" in said.read_text())
        site.until(site.up)
        assert waiting.poll() is None, said.read_text()
        site.cli("node", "set", "n1", "bmc_url=fake://n1")
        assert waiting.wait(180) == 0
    finally:
        waiting.kill()
    assert "manageable" in said.read_text()
