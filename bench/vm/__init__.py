"""lbctl and IPVS side by side, in one guest with one of Debian's kernels: `python -m bench.vm --help`."""
