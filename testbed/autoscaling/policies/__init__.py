"""The autoscalers that people run, by their platforms' rules. A policy is one file here.

Those of a platform say where their rules come from.
"""

from __future__ import annotations

import importlib
import pkgutil

from testbed.autoscaling.policies.dynamo import Dynamo
from testbed.autoscaling.policies.fixed import Fixed
from testbed.autoscaling.policies.hpa import Hpa
from testbed.autoscaling.policies.keda import Keda
from testbed.autoscaling.policies.knative import Knative
from testbed.autoscaling.policies.llm_d import LlmD
from testbed.autoscaling.policies.oracle import Oracle
from testbed.autoscaling.policies.predictive import Predictive
from testbed.autoscaling.policies.ray_serve import RayServe
from testbed.autoscaling.policy import find_policy, known_policies

__all__ = [
    "Dynamo",
    "Fixed",
    "Hpa",
    "Keda",
    "Knative",
    "LlmD",
    "Oracle",
    "Predictive",
    "RayServe",
    "find_policy",
    "known_policies",
]

for _file in pkgutil.iter_modules(__path__):  # a file of this folder registers its policy when it is imported
    importlib.import_module(f"{__name__}.{_file.name}")
