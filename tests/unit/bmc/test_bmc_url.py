"""BMC URLs: what they mean, and that a mistake never shows a password."""

import pytest

from baremetal.bmc.url import BmcUrl
from baremetal.errors import UsageError

GOOD = [  # text, scheme, host, port, user, spelled
    ("10.0.0.17", "ipmi", "10.0.0.17", 623, "", "ipmi://10.0.0.17"),
    ("ipmi://admin@10.0.0.17:623?cipher=3", "ipmi", "10.0.0.17", 623, "admin", "ipmi://admin@10.0.0.17?cipher=3"),
    ("ipmi://a%40b%3A@h:6230", "ipmi", "h", 6230, "a@b:", "ipmi://a%40b%3A@h:6230"),
    ("ipmi://x%FF@10.0.0.1", "ipmi", "10.0.0.1", 623, "x\udcff", "ipmi://x%FF@10.0.0.1"),
    ("redfish://root@bmc1/redfish/v1/Systems/1", "redfish+https", "bmc1", 443, "root", None),
    ("redfish+http://root@bmc1:8000", "redfish+http", "bmc1", 8000, "root", "redfish+http://root@bmc1:8000"),
    ("ipmi://admin@[fe80::1]:624", "ipmi", "fe80::1", 624, "admin", "ipmi://admin@[fe80::1]:624"),
    ("manual://r1-u07", "manual", "r1-u07", 0, "", "manual://r1-u07"),
    ("fake://sim-1?power_delay_s=2", "fake", "sim-1", 0, "", "fake://sim-1?power_delay_s=2"),
]
BAD = [  # text, a word of the brief, a word of the way out
    ("ipmi://admin:geheim@10.0.0.17", "password", "--password"),
    ("ipmi://admin@10.0.0.17?password=geheim", "secret", "environment"),
    ("ipmi://admin:geheim@10.0.0.17:99999", "bad port", "ipmi://"),
    ("ipmi://admin:geheim@[::1", "bad host", "ipmi://"),
    ("ipmi://", "no host", "ipmi://"),
    ("ipmi://10.0.0.300", "no address", "ipmi://"),
    ("ipmi://a b", "no address", "ipmi://"),
    ("impi://10.0.0.1", "unknown scheme", "ipmi"),
    ("ipmi://10.0.0.1?cypher=3", "unknown option", "cipher"),
]


@pytest.mark.parametrize(("text", "scheme", "host", "port", "user", "spelled"), GOOD)
def test_reads_and_spells_the_same(text, scheme, host, port, user, spelled):
    url = BmcUrl.parse(text)
    assert (url.scheme, url.host, url.port, url.user) == (scheme, host, port, user)
    assert BmcUrl.parse(str(url)) == url
    if spelled:
        assert str(url) == spelled


@pytest.mark.parametrize(("text", "what", "fix"), BAD)
def test_mistakes_are_named_without_the_password(text, what, fix):
    with pytest.raises(UsageError) as caught:
        BmcUrl.parse(text)
    assert what in caught.value.brief
    assert fix in caught.value.fix
    assert "geheim" not in str(caught.value)
