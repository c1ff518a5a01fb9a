"""Renders templates from metadata and puts the results in place: all of them, or none.

What os-apply-config did, in one transaction. `cli.py` is the command,
`mustache.py` and `jinja.py` the two template languages, `render.py` turns a
template tree into planned files, `transaction.py` writes them.
"""
