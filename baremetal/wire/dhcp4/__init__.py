"""DHCPv4 without sockets or clock: packets, options by name, leases, and the server's rules."""
