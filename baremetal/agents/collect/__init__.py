"""Polls metadata sources and runs a command when they change: what os-collect-config did.

`cli.py` the command, `options.py` and `inifile.py` its configuration, one module
per kind of source, `split.py` the deployments, `cache.py` the files on disk.
The resident agent does not poll; it uses only cache and split.
"""
