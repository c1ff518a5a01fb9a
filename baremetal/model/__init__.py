"""The nouns: node, port, network, image, boot, event, fault. Frozen, no I/O."""
