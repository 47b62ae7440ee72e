"""What calibration needs of a simulator: handed in, because simulation builds on calibration."""

from __future__ import annotations

from collections.abc import Callable

from loadgen.request_log import RequestLog
from loadgen.schedule import Schedule
from testbed.calibration.profile import ServiceProfile
from workloads.catalog import ServiceConfig

Simulate = Callable[[Schedule, ServiceProfile, ServiceConfig, int], RequestLog]
