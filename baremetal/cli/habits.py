"""What people type who come from Ironic, OpenStack, ipmitool or Unix, and what it is called here.

Data only; read when a word was not understood (misuse.py). Every command and option named on the right
exists: tests/unit/cli/test_habits.py looks each of them up.
"""

from __future__ import annotations

IRONIC = "Ironic's own client drives /v1 of this server: docs/explanation/ironic-api.md"

# First words that are no noun of ours.
NOUNS: dict[str, str] = {
    "port": "a node's ports: baremetal node show NODE; change them: baremetal node set NODE --mac MAC",
    "conductor": "baremetal server list",
    "driver": "the scheme of the BMC's URL is the driver: baremetal node set NODE --bmc redfish+https://USER@ADDRESS",
    "chassis": "label nodes: baremetal node set NODE --label rack=r1, then: baremetal node list --where label.rack=r1",
    "introspection": "baremetal node inspect NODE, baremetal node inventory NODE, baremetal inspection rule list",
    "create": "baremetal node import FILE (instackenv.json, Ironic's YAML, CSV, TOML)",
    "list": "baremetal node list",
    "show": "baremetal node show NODE",
    "import": "baremetal node import FILE",
    "portgroup": IRONIC,
    "volume": IRONIC,
    "shard": IRONIC,
    "runbook": IRONIC,
    "deploy-template": IRONIC,
    "rule": "baremetal inspection rule list",
    "config": "baremetal settings",
    "log": "baremetal events --follow; of one boot: baremetal node console NODE --log",
    "logs": "baremetal events --follow; of one boot: baremetal node console NODE --log",
    "top": "baremetal watch",
    "ps": "baremetal node list --where state=deploying",
    "ipmi": "baremetal bmc power status --hosts ADDRESS --user USER",
    "dhcp": "baremetal network leases",
    "lease": "baremetal network leases",
    "backup": "baremetal db backup",
    "token": "baremetal api token list",
    "user": "baremetal api user list",
    "demo": "baremetal lab demo, or ./hack/demo in a checkout",
    "undercloud": "baremetal init --undercloud-conf undercloud.conf, then: baremetal serve",
    "overcloud": "baremetal node import instackenv.json; baremetal node deploy NODE --image IMAGE",
}

# Words below a noun. A value that is one word of ours is its name.
VERBS: dict[str, dict[str, str]] = {
    "node": {
        "create": "baremetal node enroll NAME --bmc ipmi://USER@ADDRESS",
        "add": "baremetal node enroll NAME --bmc URL; a trait: baremetal node set NODE --trait CUSTOM_X",
        "remove": "baremetal node delete NODE; a trait: baremetal node set NODE --trait with those that stay",
        "ls": "baremetal node list",
        "rm": "baremetal node delete NODE",
        "destroy": "baremetal node delete NODE",
        "introspect": "baremetal node inspect NODE",
        "unset": "baremetal node set NODE --property KEY= (an empty value removes; so with --label)",
        "edit": "baremetal node set NODE FIELD=VALUE",
        "reboot": "baremetal node power NODE reboot",
        "on": "baremetal node power NODE on",
        "off": "baremetal node power NODE off",
        "trait": "baremetal node show NODE; baremetal node set NODE --trait CUSTOM_X",
        "boot": "baremetal node boot-device NODE pxe; UEFI or BIOS: baremetal node set NODE --firmware uefi",
        "bios": IRONIC,
        "firmware": "baremetal bmc firmware --hosts redfish+https://USER@ADDRESS",
        "vif": IRONIC,
        "passthru": IRONIC,
        "inject": IRONIC,
        "children": IRONIC,
        "release": "baremetal node undeploy NODE",
        "unprovision": "baremetal node undeploy NODE",
        "provision": "baremetal node deploy NODE --image IMAGE",
        "boot-order": "baremetal node boot-device NODE pxe",
        "status": "baremetal node show NODE; why it is there: baremetal node explain NODE",
        "log": "baremetal node events NODE; its console: baremetal node console NODE --log",
        "logs": "baremetal node events NODE; its console: baremetal node console NODE --log",
        "ssh": "ssh to its address (baremetal node show NODE), or: baremetal node console NODE",
        "sol": "baremetal node console NODE",
        "sel": "baremetal node events NODE --bmc",
        "sdr": "baremetal node sensors NODE",
        "wait": "say --wait with the verb; what a node waits for: baremetal node explain NODE",
        "label": "baremetal node set NODE --label rack=r1",
        "retire": "baremetal node set NODE --retired",
        "protect": "baremetal node set NODE --protected",
    },
    "bmc": {
        "status": "baremetal bmc power status --hosts ADDRESS",
        "on": "baremetal bmc power on --hosts ADDRESS",
        "off": "baremetal bmc power off --hosts ADDRESS",
        "chassis": "baremetal bmc power status --hosts ADDRESS; baremetal bmc bootdev pxe --hosts ADDRESS",
        "sel": "baremetal bmc events --hosts ADDRESS",
        "sdr": "baremetal bmc sensors --hosts ADDRESS",
        "sensor": "baremetal bmc sensors --hosts ADDRESS",
        "sol": "baremetal bmc console --hosts ADDRESS",
        "mc": "baremetal bmc info --hosts ADDRESS; baremetal bmc reset --hosts ADDRESS",
        "fru": "baremetal bmc info --hosts ADDRESS",
        "lan": "baremetal bmc info --hosts ADDRESS",
        "user": "baremetal bmc users --hosts ADDRESS",
        "identify": "baremetal bmc locate --hosts ADDRESS",
        "list": "baremetal bmc scan NETWORK; of nodes: baremetal node list --columns name,bmc_url",
        "discover": "baremetal bmc scan NETWORK",
    },
    "image": {
        "create": "baremetal image build NAME, or a file that is there: baremetal image add FILE",
        "upload": "baremetal image add FILE",
        "import": "baremetal image add FILE",
        "rm": "baremetal image delete IMAGE",
        "ls": "baremetal image list",
    },
    "allocation": {"ls": "baremetal allocation list", "unset": "baremetal allocation delete ALLOCATION"},
    "metadata": {
        "get": "baremetal metadata show NODE",
        "list": "baremetal metadata show NODE; of all: baremetal metadata status",
        "delete": "baremetal metadata unset NODE KEY",
    },
    "network": {
        "create": "baremetal network add NAME --interface IF --cidr NETWORK --server ADDRESS",
        "delete": "baremetal network remove NAME",
    },
    "lab": {
        "start": "baremetal lab up",
        "stop": "baremetal lab down",
        "destroy": "baremetal lab down",
        "list": "baremetal lab status",
        "log": "baremetal lab console NODE --log",
    },
    "inspection": {
        "list": "baremetal inspection rule list, baremetal inspection sku list",
        "add": "baremetal inspection rule add FILE, baremetal inspection sku add FILE",
        "start": "baremetal node inspect NODE",
        "data": "baremetal node inventory NODE --json",
        "status": "baremetal node explain NODE",
        "abort": "baremetal node abort NODE",
    },
    "server": {"show": "baremetal server list", "status": "baremetal status"},
    "db": {"dump": "baremetal db backup", "migrate": "serve brings the schema up to date by itself"},
}

# Options: of one command, of all commands of a noun, of all.
OPTIONS: dict[str, dict[str, str]] = {
    "": {
        "-f": "--json or --yaml",
        "--format": "--json or --yaml",
        "-o": "--json or --yaml",
        "--output": "--json or --yaml",
        "-v": "BAREMETAL_DEBUG=1 shows the traceback of an error; baremetal events shows what happened",
        "--verbose": "BAREMETAL_DEBUG=1 shows the traceback of an error; baremetal events shows what happened",
        "--debug": "BAREMETAL_DEBUG=1 shows the traceback of an error",
        "--os-cloud": "--server URL and BAREMETAL_TOKEN; OpenStack's clouds.yaml is read by Ironic's own client",
        "--os-endpoint": "--server URL and BAREMETAL_TOKEN",
        "--token": "BAREMETAL_TOKEN, or BAREMETAL_TOKEN_FILE: a token is never on the command line",
    },
    "* list": {
        "--fields": "--columns a,b",
        "-c": "--columns a,b",
        "--column": "--columns a,b",
        "--long": "--columns a,b; all fields: --json",
        "--detail": "--columns a,b; all fields: --json",
        "--sort-column": "--sort FIELD",
        "--sort-key": "--sort FIELD",
        "--limit": "all are listed; cut with: | head",
        "--marker": "all are listed",
        "--quiet": "--columns name --no-header",
        "-q": "--columns name --no-header",
        "--no-headers": "--no-header",
        "--filter": "--where 'class=compute and state=available'",
    },
    "node list": {
        "--provision-state": "--state STATE, or --where 'state=available'",
        "--resource-class": "--where class=compute",
        "--class": "--where class=compute",
        "--maintenance": "--where maintenance",
        "--no-maintenance": "--where 'not maintenance'",
        "--label": "--where label.rack=r1",
        "--associated": "--where state=active",
        "--unassociated": "--where state=available",
        "--retired": "--where retired",
        "--fault": "--where fault",
        "--driver": "--columns name,bmc_url",
        "--owner": "--where label.owner=NAME",
    },
    "node show": {"--fields": "--json | jq .FIELD", "--column": "--json | jq .FIELD", "--long": "--json"},
    "node set": {
        "--driver-info": "--bmc ipmi://USER@ADDRESS, and --password-file FILE for the password",
        "--driver": "--bmc redfish+https://USER@ADDRESS: its scheme is the driver",
        "--extra": "--property KEY=VALUE, or --label KEY=VALUE",
        "--instance-info": "options of baremetal node deploy",
        "--owner": "--label owner=NAME",
        "--description": "--label description=TEXT",
        "--chassis-uuid": "--label rack=r1",
        "--bmc-url": "--bmc URL",
        "--password": "--password-file FILE: a password is never on the command line",
        "--maintenance": "baremetal node maintenance NODE 'why'",
        "--boot-mode": "--firmware uefi",
    },
    "node enroll": {
        "--name": "the name is the first word: baremetal node enroll r1-u07",
        "--driver": "--bmc redfish+https://USER@ADDRESS: its scheme is the driver",
        "--driver-info": "--bmc ipmi://USER@ADDRESS, and --password-file FILE for the password",
        "--address": "--bmc ipmi://USER@ADDRESS; a NIC: --mac MAC",
        "--port": "--mac MAC",
        "--password": "--password-file FILE, or BAREMETAL_BMC_PASSWORD: a password is never on the command line",
        "--extra": "--label KEY=VALUE",
    },
    "node deploy": {
        "--image-source": "--image IMAGE",
        "--config-drive-file": "--user-data FILE",
        "--deploy-steps": "--steps FILE",
        "--force": "a verb is refused for a reason: baremetal node explain NODE",
    },
    "node clean": {"--clean-steps": "--steps FILE", "--raid-config": "baremetal node raid NODE --level 1"},
    "node provide": {"--clean-steps": "--steps FILE"},
    "node maintenance": {"--reason": "baremetal node maintenance NODE 'why'"},
    "node power": {
        "--soft": "baremetal node power NODE soft-off",
        "--power-timeout": "it is ordered and looked at until it is so",
    },
    "node timeline": {"--watch": "--follow"},
    "node import": {"--validate-only": "--dry-run", "--file": "the file is a word: baremetal node import FILE"},
    "allocation create": {
        "--resource-class": "the class is a word: baremetal allocation create compute",
        "--candidate-node": "--candidate NODE",
    },
    "bmc *": {
        "-U": "--user USER (-u)",
        "-P": "BAREMETAL_BMC_PASSWORD or --password-file FILE: a password is never on the command line",
        "-p": "BAREMETAL_BMC_PASSWORD or --password-file FILE; a port stands in the address: ipmi://10.0.0.17:9623",
        "-I": "--scheme ipmi; lanplus (IPMI 2.0) is always used",
        "-E": "BAREMETAL_BMC_PASSWORD, or --password-env NAME",
        "-f": "--password-file FILE",
        "-C": "?cipher=3 in the address: ipmi://10.0.0.17?cipher=3",
        "-D": "--scheme ipmi; IPMI 2.0 is always used",
        "--where": "for nodes the server knows: baremetal node power --where 'class=compute' on",
        "--password": "BAREMETAL_BMC_PASSWORD or --password-file FILE: a password is never on the command line",
    },
    "image build": {"--dry-run": "baremetal image plan NAME", "--force": "what did not change is not built again"},
    "image add": {"--disk-format": "the format is found out", "--file": "the file is a word: baremetal image add FILE"},
    "events": {"--tail": "--follow", "-w": "--follow", "--watch": "--follow", "--since": "--limit N"},
    "serve": {
        "--port": "settings, like BAREMETAL_HTTP_PORT: baremetal settings",
        "--daemon": "systemctl start baremetal",
    },
    "init": {"--force": "what is there stays; move a file away to have it made anew"},
}


def noun(word: str, verbs_of_nodes: set[str]) -> str:
    """What to say instead of an unknown first word; "" when we do not know."""
    if word in NOUNS:
        return NOUNS[word]
    if word in verbs_of_nodes:
        return f"baremetal node {word} NODE"
    return VERBS["node"].get(word, "")


def verb(noun_: str, word: str) -> str:
    """What to say instead of an unknown verb of a noun."""
    return VERBS.get(noun_, {}).get(word, "")


def option(path: str, word: str) -> str:
    """What to say instead of an unknown option of `node list`."""
    first, last = path.split(" ")[0], path.split(" ")[-1]
    for place in (path, f"{first} *", f"* {last}", ""):
        if word in OPTIONS.get(place, {}):
            return OPTIONS[place][word]
    return ""
