"""`python -m lb` is `lbctl`."""

from lb.cli import main

main()
