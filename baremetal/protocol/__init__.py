"""What agent, boot plane and control plane say to each other.

Documents only: plain data, JSON, no I/O. Shared with the node, so standard
library only and Python 3.9. Unknown fields are ignored by readers, so that an
old agent and a new server understand each other.
"""
