"""RMCP+ and IPMI 2.0 as messages, server side. Opens no socket, reads no clock; lab/bmc.py does.

Read in this order: `rmcp` (what a datagram is), `crypto` (cipher suites),
`session` (open session, RAKP 1-4, keys, sequence numbers), `server` (a
datagram in, datagrams out), `commands` (what a BMC answers).
"""
