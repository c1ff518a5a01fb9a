"""How patient and how careful passes are: one table of times and limits."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Policy:
    """Times in seconds; limits in nodes.

    `*_s` of waits are deadlines: when one passes, the next rung of its ladder
    is taken, and after the last rung the workflow fails with evidence.
    """

    # BMC
    verify_patience_s: float = 30.0
    bmc_patience_s: float = 600.0
    bmc_pause_s: float = 2.0
    bmc_most_pause_s: float = 60.0
    bmc_reset: bool = True
    power_confirm_s: float = 120.0
    power_poll_s: float = 1.0
    soft_off_poll_s: float = 5.0
    soft_off_s: float = 600.0  # then the power is cut
    # agent
    post_s: float = 300.0  # power-on to first sight on the network, while this machine's own time is not known
    boot_s: float = 240.0  # last sight (DHCP, loader, script, kernel) to hello
    hello_s: float = 600.0  # power-on to hello at most
    boot_tries: int = 3
    beat_lost_s: float = 90.0
    inspect_s: float = 300.0
    # how long inspection waits for switches to say who they are (LLDP: every 30 s); 0 takes what was heard
    lldp_s: float = 0.0
    clean_s: float = 1800.0
    write_s: float = 3600.0
    progress_lost_s: float = 180.0
    first_boot_s: float = 900.0
    first_boot_tries: int = 2
    instance_nonce_s: float = 86400.0
    order_tries: int = 2
    # fast track: the ramdisk stays up that long without work, then the machine is powered off
    fast_track: bool = True
    idle_ramdisk_s: float = 900.0
    # cleaning: metadata (partition tables and signatures), zero, discard, secure, best
    clean_method: str = "metadata"
    automated_clean: bool = True
    # limits
    deploy_limit: int = 250
    clean_limit: int = 50
    inspect_limit: int = 250
    workers: int = 64
    # background
    power_sync_s: float = 120.0
    power_sync_workers: int = 8
    sensor_poll_s: float = 300.0  # 0: never
    sensor_poll_workers: int = 4
    audit_bmcs: bool = True
    force_power: bool = False
    events_keep_days: float = 90.0
    record_consoles: bool = True
