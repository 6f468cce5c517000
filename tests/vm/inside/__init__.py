"""What runs in guests that have network cards: pytest files that tests outside name (tests/vm/test_drivers.py)."""
