"""A policy's settings as a configuration holds them: its kind and parameters, or the file with its object."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator

from testbed.autoscaling.manifests.file import with_manifest
from testbed.config import current_names

# A manifest is read at once: the folder of a result keeps what was simulated, whatever becomes of the file.
PolicySettings = Annotated[dict[str, Any], BeforeValidator(current_names), AfterValidator(with_manifest)]
