"""Rate functions: how many requests per second are offered at each moment of a run. A pattern is one file here."""

from __future__ import annotations

import importlib
import pkgutil

from loadgen.patterns.bursty import Bursty
from loadgen.patterns.constant import Constant
from loadgen.patterns.fluctuating import Fluctuating
from loadgen.patterns.pattern import (
    Pattern,
    PatternError,
    families,
    find_pattern,
    known_patterns,
    make_pattern,
    parameter,
)
from loadgen.patterns.periodic import Periodic
from loadgen.patterns.ramp import Ramp
from loadgen.patterns.trace import Trace

__all__ = [
    "Bursty",
    "Constant",
    "Fluctuating",
    "Pattern",
    "PatternError",
    "Periodic",
    "Ramp",
    "Trace",
    "families",
    "find_pattern",
    "known_patterns",
    "make_pattern",
    "parameter",
]

for _file in pkgutil.iter_modules(__path__):  # a file of this folder registers its pattern when it is imported
    importlib.import_module(f"{__name__}.{_file.name}")
