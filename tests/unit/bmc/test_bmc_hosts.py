"""Lists of BMCs as people write them, and a verdict for every line."""

import pytest

from baremetal.bmc.hosts import expand
from baremetal.errors import UsageError

WORDS = [  # words, hosts
    (["10.0.0.17"], ["10.0.0.17"]),
    (["10.0.0.17,10.0.0.18", "10.0.0.17"], ["10.0.0.17", "10.0.0.18"]),
    (["10.0.0.0/30"], ["10.0.0.1", "10.0.0.2"]),
    (["10.0.0.9-11"], ["10.0.0.9", "10.0.0.10", "10.0.0.11"]),
    (["10.0.0.254-10.0.1.1"], ["10.0.0.254", "10.0.0.255", "10.0.1.0", "10.0.1.1"]),
    (["bmc[08-10].example"], ["bmc08.example", "bmc09.example", "bmc10.example"]),
    (["fd00::1"], ["[fd00::1]"]),
    (["ipmi://root@h1?cipher=3,redfish://root@h2"], ["h1", "h2"]),
    (["r1-bmc"], ["r1-bmc"]),
]
MISTAKES = ["10.0.0.0/8", "10.0.0.9-3", "10.0.0.0/33", "", "bmc[1-99999999]"]


@pytest.mark.parametrize(("words", "hosts"), WORDS)
def test_words(words, hosts):
    assert [target.host for target in expand(words)] == hosts


@pytest.mark.parametrize("word", MISTAKES)
def test_mistakes(word):
    with pytest.raises(UsageError):
        expand([word])


def test_errors_on_lines_3_and_977_do_not_stop_the_others(tmp_path):
    lines = [f"10.0.{n >> 8}.{n & 255}" for n in range(1, 1001)]
    lines[2] = "ipmi://admin:geheim@10.0.0.3"
    lines[976] = "10.0.0.999"
    file = tmp_path / "hosts"
    file.write_text("# our rack\n" + "\n".join(lines) + "\n\n")
    targets = expand([str(file)])
    bad = [target for target in targets if target.error]
    assert len(targets) == 1000
    assert [target.host for target in bad] == ["hosts:4", "hosts:978"]
    assert "geheim" not in str([str(target.error) for target in bad])


def test_a_nodes_file_brings_its_passwords(tmp_path):
    file = tmp_path / "instackenv.json"
    file.write_text(
        '{"nodes": [{"pm_type": "ipmi", "pm_addr": "10.0.0.7", "pm_user": "root", "pm_password": "geheim"}]}'
    )
    (target,) = expand([str(file)])
    assert target.password.reveal() == "geheim"
    assert "geheim" not in repr(target)
