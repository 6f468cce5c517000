"""Debian's kernels, booted under qemu over this machine's own files."""
