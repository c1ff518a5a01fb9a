"""Runs the scripts of the phases: what os-refresh-config and dib-run-parts did, with bounds on everything."""
