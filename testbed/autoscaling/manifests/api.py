"""What the objects of Kubernetes' API share: camelCase names, quantities, durations."""

from __future__ import annotations

import math
import re
from decimal import Decimal
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, ConfigDict, Field
from pydantic.alias_generators import to_camel

from testbed.config import Strict

LARGEST = 10**24  # quantity: a million of its largest unit
INT32 = 2**31 - 1  # of its whole numbers
UNITS_S = {"ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
DURATION = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)")


class ApiObject(Strict):
    """A part of an object, under the API's own names; unknown names are refused."""

    model_config = ConfigDict(alias_generator=to_camel)


def _annotated(metadata: dict[str, Any]) -> dict[str, Any]:
    annotations = metadata.get("annotations")
    if annotations is None:
        return metadata
    if not isinstance(annotations, dict) or not all(isinstance(name, str) for name in annotations):
        raise ValueError("annotations must be texts by name")
    return metadata


class Whole(ApiObject):
    """What every object has beside its spec. Only the spec says how it scales."""

    api_version: str
    kind: str
    metadata: Annotated[dict[str, Any], AfterValidator(_annotated)] = Field({})
    status: Any = None


def milli_of(quantity: Any) -> int:
    """A quantity of the API in milli-units, rounded up as the API does: "500m", "1k", "0.5", "1Gi", 15. ValueError."""
    from kubernetes.utils.quantity import parse_quantity  # noqa: PLC0415  a client of a second, for this alone

    refusal = ValueError("is no quantity: give a number with a unit, e.g. 500m, 1k or 15")
    if isinstance(quantity, bool) or not isinstance(quantity, (str, int, float)) or "_" in str(quantity):
        raise refusal
    try:
        # As text: 0.1 is no binary fraction.
        amount: Decimal = parse_quantity(str(quantity).strip())  # type: ignore[no-untyped-call]
    except ValueError:
        raise refusal from None
    if not amount.is_finite() or not -LARGEST < amount < LARGEST:
        raise refusal
    return math.ceil(1000 * amount)


def seconds_of(duration: str) -> float:
    """Of a duration as Go and Prometheus write it, e.g. 90s or 1m30s. ValueError."""
    parts = DURATION.findall(duration)
    if not parts or "".join(number + unit for number, unit in parts) != duration:
        raise ValueError(f"is no duration: give e.g. 90s or 1m30s (got {duration!r})")
    return sum(float(number) * UNITS_S[unit] for number, unit in parts)


Milli = Annotated[int, BeforeValidator(milli_of)]
PositiveMilli = Annotated[Milli, Field(gt=0)]
