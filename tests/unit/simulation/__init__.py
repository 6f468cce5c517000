"""A made-up cluster in which everything is real that decides: heartbeats, roles, sync and the packet path's reference.

Time, network, kernels and clients are made up, and everything follows from one seed: `python -m tests.unit.simulation`.
"""
