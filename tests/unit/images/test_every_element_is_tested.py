"""Each element of ours has a README, and a test that boots an image with it or looks into its tree."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from baremetal.images import catalog
from baremetal.images.elements import dib_elements_dir, resolve
from baremetal.paths import share_dir

ELEMENTS = share_dir("elements")
TESTS = Path(__file__).parents[2]
# Boots the image `demo` from DHCP to a configured node.
DEMO = "lab/test_walking_rack.py"
WHERE = {
    "baremetal-agent": DEMO,
    "block-device-hybrid": "lab/images/test_boots.py",  # the layout of every disk there that asks for no other
    "bootloader": "lab/images/test_boots.py",
    "chrony": "integration/images/test_elements_of_ours.py",
    "cloud-init": "lab/images/test_boots.py",
    "cloud-kernel": "lab/images/test_boots.py",
    "debian-base": "lab/images/test_boots.py",
    "demo-web": DEMO,
    "deploy-ramdisk": "integration/images/test_real_images.py",
    "generic-kernel": "integration/images/test_real_images.py",
    "growroot": "lab/images/test_boots.py",
    "hosts": "integration/images/test_elements_of_ours.py",
    "ifupdown-network": "integration/images/test_elements_of_ours.py",
    "lean-boot": DEMO,
    "lean-initrd": "lab/images/test_boots.py",
    "one-initrd": "integration/images/test_elements_of_ours.py",
    "os-apply-config": DEMO,
    "os-collect-config": DEMO,
    "os-refresh-config": DEMO,
    "serial-console": "integration/images/test_elements_of_ours.py",
    "ssh": "lab/images/test_boots.py",
    "systemd-network": "integration/images/test_elements_of_ours.py",
}


@pytest.mark.parametrize("name", sorted(path.name for path in ELEMENTS.iterdir() if path.is_dir()))
def test_an_element_has_a_readme_and_a_test(name: str) -> None:
    assert (ELEMENTS / name / "README.md").read_text().startswith(f"# {name}\n")
    test = TESTS / WHERE[name]
    assert test.is_file()
    if WHERE[name] == DEMO:
        found = resolve(catalog.find("demo").elements, [ELEMENTS, dib_elements_dir()])
        assert name in {element.name for element in found}
        assert "demo" in test.read_text()
    elif name != "block-device-hybrid":
        assert re.search(rf"\b{name}\b", test.read_text())
