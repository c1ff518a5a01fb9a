"""The command line: parse, call, render."""


def main() -> None:
    """Entry point of `baremetal`."""
