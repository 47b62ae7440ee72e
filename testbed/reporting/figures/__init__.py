"""Figures, a module for each kind of report: numbers in, a matplotlib figure out. Add one as a function there.

Or as a file of its own, which puts itself at the end of a report: `testbed.reporting.added`.
"""
