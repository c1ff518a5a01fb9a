"""The virtual rack: QEMU machines behind virtual BMCs in a private network, and faults to inject.

Read in this order: `spec` (what a rack is), `bmc` (BMCs on UDP), `machine`
(QEMU behind a BMC), `network`, `rack` (all of it), `namespace` and `control`
(how a rack lives in namespaces of its own and is found there).
"""
