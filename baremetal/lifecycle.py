"""The transition table of a node's life; what each verb means and where it is allowed."""
