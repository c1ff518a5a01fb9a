"""Golden images: definitions and elements in, bootable, signed, reproducible images out."""
