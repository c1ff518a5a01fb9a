"""The reference pages that are made from tables say what the tables say."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]


@pytest.mark.parametrize("page", ["settings.md", "exit-codes.md", "ironic-differences.md"])
def test_page_is_as_old_as_the_code(page):
    done = subprocess.run([sys.executable, ROOT / "hack/gen-docs", "--check", page], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_first_page_names_the_packages_that_images_need():
    """All of hack/packages.txt's group `run`, but those of the virtual rack alone."""
    rack_only = {"ipxe-qemu", "qemu-system-x86", "ovmf", "openssh-client"}
    lines = [line.split() for line in (ROOT / "hack/packages.txt").read_text().splitlines()]
    needed = {name for line in lines if line[:1] == ["run"] for name in line[1:]} - rack_only
    page = (ROOT / "docs/how-to/first-real-node.md").read_text()
    assert needed - set(page.split()) == set()
