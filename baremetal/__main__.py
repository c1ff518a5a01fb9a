"""`python -m baremetal` is the command `baremetal`."""

from baremetal.cli import main

if __name__ == "__main__":
    main()
