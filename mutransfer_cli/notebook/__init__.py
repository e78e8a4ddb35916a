"""The package as a program or a notebook uses it: runs, fits and sweeps as objects."""
