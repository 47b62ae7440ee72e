"""Errors of the testbed's phases; workloads/errors.py draws the whole tree."""

from workloads.errors import KisError


class ConfigError(KisError):
    """A configuration file with a wrong key or value."""


class ServingError(KisError):
    """A server that cannot be started, or does not answer."""


class ClusterError(KisError):
    """A Kubernetes cluster that cannot be had, or does not answer."""


class CalibrationError(KisError):
    """Too little or contradictory data to fit a profile."""


class ReportError(KisError):
    """Runs that cannot be compared."""
