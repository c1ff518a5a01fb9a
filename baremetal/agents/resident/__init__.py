"""The resident agent: one process that holds a request open, and converges when the answer comes."""
