"""Links that a BMC gives are followed on its own service only: the session's token goes along."""

from __future__ import annotations

import pytest

from baremetal.bmc.faults import BmcProtocol
from baremetal.bmc.redfishhttp import RedfishHttp
from baremetal.bmc.url import BmcUrl

HOME = "https://10.0.0.1:8443"
LINKS = [  # as the BMC says it, where it is looked for
    ("/redfish/v1/x", f"{HOME}/redfish/v1/x"),
    ("/redfish/v1/x?$skip=5", f"{HOME}/redfish/v1/x?$skip=5"),
    ("http://10.0.0.1/redfish/v1/x", f"{HOME}/redfish/v1/x"),
    ("https://10.0.0.1:444/x?a=b", f"{HOME}/x?a=b"),
    ("http://root@10.0.0.1/x", f"{HOME}/x"),
]
REFUSED = ["//evil/x", "https://10.0.0.1@evil/", "https://evil:8443/x", "http://[::1", "/a\x00b", "x" * 70_000]


@pytest.fixture
def http() -> RedfishHttp:
    return RedfishHttp(BmcUrl.parse("redfish+https://admin@10.0.0.1:8443"), "secret")


@pytest.mark.parametrize(("link", "target"), LINKS)
def test_a_link_is_a_path_of_the_same_service(http: RedfishHttp, link: str, target: str) -> None:
    assert http._local(link) == target


@pytest.mark.parametrize("link", REFUSED)
def test_a_link_elsewhere_is_refused(http: RedfishHttp, link: str) -> None:
    with pytest.raises(BmcProtocol):
        http._local(link)
