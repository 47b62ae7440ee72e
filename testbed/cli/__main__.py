"""`python -m testbed.cli`: `kis` where it is not installed."""

from testbed.cli import main

main()
