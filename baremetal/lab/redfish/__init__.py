"""The Redfish face of a virtual BMC: the same machine, users, boot override and event log as its IPMI face.

Read in this order: `http` (requests and answers as values), `face` (who is asked,
who may ask), `systems`, `managers`, `accounts` (the resources), `service` (TLS
and sockets).
"""
