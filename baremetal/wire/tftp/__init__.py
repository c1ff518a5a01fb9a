"""TFTP without sockets or clock (RFC 1350, 2347-2349, 7440): packets, files cut into blocks, one transfer."""
