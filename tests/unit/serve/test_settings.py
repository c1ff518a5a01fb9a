"""Settings: default < file < environment < flags, and every mistake named with the nearest name."""

from pathlib import Path

import pytest

from baremetal.config import SETTINGS, Settings
from baremetal.errors import UsageError

GOOD = """
http_port = 8081
power_sync_s = 30
[[network]]
interface = "eno2"
cidr = "10.0.0.0/24"
server = "10.0.0.1"
range = "10.0.0.100-10.0.0.199"
dns = ["10.0.0.254"]
ra_prefix = "fd00:1:2:3::/64"
"""


def load(tmp_path, text, **kw):
    file = tmp_path / "baremetal.toml"
    file.write_text(text)
    return Settings.load(file, env=kw.pop("env", {}), **kw)


def test_every_setting_has_help_and_an_environment_name():
    assert all(s.help and s.env == f"BAREMETAL_{s.name.upper()}" for s in SETTINGS.values())


def test_defaults_need_no_file():
    settings = Settings.load(env={})
    assert settings.http_port == 8080
    assert settings.database_url == "sqlite:////var/lib/baremetal/baremetal.db"


def test_file_then_environment_then_flags(tmp_path):
    assert load(tmp_path, GOOD).http_port == 8081
    assert load(tmp_path, GOOD, env={"BAREMETAL_HTTP_PORT": "8082"}).http_port == 8082
    flags = {"http_port": "8083", "https_port": None}
    assert load(tmp_path, GOOD, env={"BAREMETAL_HTTP_PORT": "8082"}, flags=flags).http_port == 8083


def test_network_table(tmp_path):
    (network,) = load(tmp_path, GOOD).networks
    assert (network.name, network.server, network.range_first) == ("eno2", "10.0.0.1", "10.0.0.100")
    assert network.ra_prefix == "fd00:1:2:3::/64"


def test_range_defaults_to_the_upper_half(tmp_path):
    (network,) = load(tmp_path, '[[network]]\ninterface="a"\ncidr="10.0.0.0/24"\nserver="10.0.0.1"').networks
    assert (network.range_first, network.range_last) == ("10.0.0.128", "10.0.0.254")


NET = '[[network]]\ninterface="a"\ncidr="10.0.0.0/24"\nserver="10.0.0.1"\n'
MISTAKES = [  # file, what the error says
    ("htp_port = 1", "unknown setting 'htp_port' (did you mean 'http_port'?)"),
    ("http_port = 1.5", "http_port: 1.5 is not a whole number"),
    ("http_port = -1", "negative"),
    ("clean_method = 'shred'", "none of metadata, zero, discard, secure"),
    ("log_level = 'loud'", "none of debug"),
    ("api_auth = 3", "neither true nor false"),
    ('state_dir = "var"', "not an absolute path"),
    ("power_sync_s = inf", "no length of time"),
    ("network = 3", "[[network]] tables"),
    (NET + 'rnge="x"', "unknown key 'rnge' (did you mean 'range'?)"),
    ('[[network]]\ninterface="a"', "cidr, server missing"),
    (NET.replace("10.0.0.1", "10.1.0.1"), "no host address of 10.0.0.0/24"),
    (NET + 'range="10.0.0.1-10.0.0.9"', "inside the range"),
    (NET + 'range="10.0.0.9"', "not first-last"),
    (NET + 'range="10.0.0.9-10.0.0.8"', "empty"),
    (NET + "lease_s=5", "between 60 seconds"),
    (NET + 'mode="x"', "none of known, discover, anybody"),
    (NET + 'ra_prefix="2001:db8::/64"', "not a ULA"),
    (NET + NET, "two networks are called 'a'"),
    (NET + NET.replace('"a"', '"b"'), "overlap"),
    (NET + 'dns="1.1.1.1"', "not a list"),
    (NET + "[network.options]\n300='x'", "no DHCP option is called"),
]


@pytest.mark.parametrize(("text", "says"), MISTAKES)
def test_mistakes_are_named(tmp_path, text, says):
    with pytest.raises(UsageError) as error:
        load(tmp_path, text)
    assert says in error.value.detail
    assert error.value.fix


def test_all_mistakes_at_once(tmp_path):
    with pytest.raises(UsageError) as error:
        load(tmp_path, "a = 1\nb = 2\nhttp_port = 'x'")
    assert len(error.value.detail.splitlines()) == 3


def test_not_toml_and_absent_file(tmp_path):
    with pytest.raises(UsageError, match="not TOML"):
        load(tmp_path, "=")
    with pytest.raises(UsageError, match="cannot read"):
        Settings.load(tmp_path / "absent", env={})


def test_misspelt_environment_is_an_error_but_foreign_names_are_not(tmp_path):
    Settings.load(env={"BAREMETAL_RACK_COLOUR": "blue"})
    with pytest.raises(UsageError) as error:
        Settings.load(env={"BAREMETAL_HTTP_PRT": "1"})
    assert "BAREMETAL_HTTP_PORT" in error.value.detail


def test_paths_follow_the_state_dir():
    settings = Settings.load(env={"BAREMETAL_STATE_DIR": "/srv/b"})
    assert settings.keys_dir == Path("/srv/b/keys")


def test_policy_settings_are_the_passes_own_defaults():
    from baremetal.serve.control import POLICY
    from baremetal.workflows.policy import Policy

    ours, theirs = Settings(), Policy()
    assert {n: getattr(ours, n) for n in POLICY} == {n: getattr(theirs, n) for n in POLICY}
    assert (ours.power_sync_s, ours.event_days) == (theirs.power_sync_s, theirs.events_keep_days)
