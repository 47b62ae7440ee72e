"""The formats of traces that are built in, a file each. Add one as a class here that derives from TraceFormat."""

from __future__ import annotations

import importlib
import pkgutil

for _file in pkgutil.iter_modules(__path__):
    importlib.import_module(f"{__name__}.{_file.name}")
