"""Figures, a module for each kind of report: numbers in, a matplotlib figure out. Add one as a function there."""
