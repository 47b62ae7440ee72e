"""Learning methods, a file each: see testbed.kiscaler.learner."""

from __future__ import annotations

import importlib
import pkgutil

for _file in pkgutil.iter_modules(__path__):  # a file of this folder registers its method when it is imported
    importlib.import_module(f"{__name__}.{_file.name}")
