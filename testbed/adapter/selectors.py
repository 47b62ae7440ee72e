"""Label selectors as the API writes them in a query: `app=web,tier in (a, b),!old`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import NamedTuple

from testbed.errors import ClusterError

_NAME = r"[A-Za-z0-9]([-A-Za-z0-9_./]*[A-Za-z0-9])?"
_SET = re.compile(rf"(?P<key>{_NAME})\s+(?P<operator>in|notin)\s*\((?P<values>[^()]*)\)")
_EQUALITY = re.compile(rf"(?P<key>{_NAME})\s*(?P<operator>==|=|!=)\s*(?P<values>({_NAME})?)")
_EXISTENCE = re.compile(rf"(?P<operator>!?)\s*(?P<key>{_NAME})")


class SelectorError(ClusterError):
    """A label selector that cannot be read."""


class Requirement(NamedTuple):
    """One part of a selector. values empty: only whether the label is there matters. wanted: or the opposite."""

    key: str
    values: frozenset[str]
    wanted: bool

    def holds(self, labels: Mapping[str, str]) -> bool:
        """As in Kubernetes: != and notin hold where the label is missing too."""
        if self.key not in labels:
            return not self.wanted
        return (not self.values or labels[self.key] in self.values) == self.wanted


def parse_selector(text: str) -> tuple[Requirement, ...]:
    """All of them must hold; an empty text selects everything. SelectorError says what cannot be read."""
    if not text.strip():
        return ()
    return tuple(_requirement(part.strip()) for part in re.split(r",(?![^()]*\))", text))


def selects(selector: tuple[Requirement, ...], labels: Mapping[str, str]) -> bool:
    """True if every requirement holds."""
    return all(requirement.holds(labels) for requirement in selector)


def _requirement(part: str) -> Requirement:
    if match := _SET.fullmatch(part):
        values = frozenset(value.strip() for value in match["values"].split(","))
        return Requirement(match["key"], values, match["operator"] == "in")
    if match := _EQUALITY.fullmatch(part):
        return Requirement(match["key"], frozenset({match["values"]}), match["operator"] != "!=")
    if match := _EXISTENCE.fullmatch(part):
        return Requirement(match["key"], frozenset(), not match["operator"])
    raise SelectorError(f"label selector: '{part}' cannot be read: write key=value, key!=value, key in (a, b) or !key")
