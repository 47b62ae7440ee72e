"""Checks of our rules against cases that others wrote down."""
