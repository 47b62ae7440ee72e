"""Formulas of KEDA's scalingModifiers, such as `max(queue, 2 * flight)`: read once, computed at each look.

KEDA has the language expr (github.com/expr-lang/expr); the part of it that makes numbers of numbers is here: literals,
names of triggers, arithmetic, comparisons, and/or/not, `? :`, `??`, lists, FUNCTIONS with predicates as in `{# > 1}`.
The rest is refused by the name of what it is. Precedences are those of its parser/operator/operator.go, kinds of values
are checked as its checker does. Every number is a float64, as all triggers' values are; expr has whole numbers too,
which differs beyond 2**53 and in that they have no negative zero.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

MOST_PARTS = 200
TOKEN = re.compile(
    r"\s*(?:(?P<number>(?:\d[\d_]*(?:\.\d[\d_]*)?|\.\d[\d_]*)(?:[eE][+-]?\d+)?)|(?P<name>[^\W\d]\w*)|(?P<text>[\"'`])"
    r"|(?P<sign>\*\*|&&|\|\||[<>=!]=|\?[?.]|\.\.|//|/\*|\S))"
)
NUMBER, TRUTH = "number", "truth value"
POINTER = "#"  # the element that a predicate is asked of
COMPARISONS = {"==": np.equal, "!=": np.not_equal, "<": np.less, ">": np.greater, "<=": np.less_equal}
COMPARISONS[">="] = np.greater_equal
ARITHMETIC = {"+": np.add, "-": np.subtract, "*": np.multiply, "/": np.divide, "**": np.power, "^": np.power}
JUNCTIONS = {"and": np.logical_and, "&&": np.logical_and, "or": np.logical_or, "||": np.logical_or}
BINARY = {  # how tightly it binds
    **dict.fromkeys(("or", "||"), 10),
    **dict.fromkeys(("and", "&&"), 15),
    **dict.fromkeys(COMPARISONS, 20),
    **dict.fromkeys(("+", "-"), 30),
    **dict.fromkeys(("*", "/"), 60),
    **dict.fromkeys(("**", "^"), 100),
    "??": 500,
}
UNARY = {"not": 50, "!": 50, "-": 90, "+": 90}
NOT_MODELLED = (
    *("%", "?.", ".", "..", "|", "//", "/*", "in", "matches", "contains", "startsWith", "endsWith"),
    *("let", "if", "nil"),
)


def _rounded(value: Any) -> Any:
    """Half away from zero, as Go rounds; Python and numpy round to even."""
    whole = np.trunc(value)
    return whole + np.copysign(1.0, value) if abs(value - whole) >= 0.5 else whole


def _median(values: Sequence[Any]) -> Any:
    """What is no number is the smallest, as Go sorts it."""
    ordered = sorted(values, key=lambda value: (not np.isnan(value), value))
    return (ordered[(len(ordered) - 1) // 2] + ordered[len(ordered) // 2]) / 2


def _int64(value: float) -> int:
    """As Go converts it on x86-64: what is no number, or too large, is the smallest one. It is up to the machine."""
    return int(value) if -(2.0**63) <= value < 2.0**63 else -(2**63)


OF_ONE: Mapping[str, Callable[[Any], Any]] = {
    "abs": np.abs,
    "ceil": np.ceil,
    "float": np.positive,
    "floor": np.floor,
    "int": lambda value: np.float64(_int64(value)),
    "round": _rounded,
}
OF_SEVERAL: Mapping[str, Callable[[Sequence[Any]], Any]] = {
    "max": max,
    "mean": np.mean,
    "median": _median,
    "min": min,
}
OF_LISTS: Mapping[str, Callable[[Sequence[Any]], Any]] = {
    "all": all,
    "any": any,
    "count": lambda truths: np.float64(sum(map(bool, truths))),
    "none": lambda truths: not any(truths),
    "one": lambda truths: sum(map(bool, truths)) == 1,
    "sum": sum,
}
OWN_ELEMENTS = ("count", "sum")  # of these the predicate may be left out
FUNCTIONS = sorted([*OF_ONE, *OF_SEVERAL, *OF_LISTS])


class NilError(Exception):
    """A formula that computes with a value that is not there."""


class _Part(NamedTuple):
    """A part of a formula: the kind of its value, and the value by those of the names."""

    kind: str
    of: Callable[[Mapping[str, Any]], Any]


@dataclass(frozen=True)
class Formula:
    """names: of the triggers that it names. coalesces: has it a `??`? Without one, nil is no result."""

    names: frozenset[str]
    coalesces: bool
    _of: Callable[[Mapping[str, Any]], Any]

    def value(self, values: Mapping[str, float | None]) -> float | None:
        """By the triggers' values; None is nil. Not finite, where it divides by zero. NilError: see there."""
        given = {name: None if value is None else np.float64(value) for name, value in values.items()}
        try:
            with np.errstate(all="ignore"):
                result = self._of(given)
        except TypeError:
            if None in given.values():
                raise NilError from None
            raise
        if result is None and not self.coalesces:
            raise NilError
        return None if result is None else float(result)


@lru_cache(maxsize=256)
def _parsed(text: str, names: frozenset[str]) -> Formula:
    reader = _Reader(text, names)
    whole = reader.expression(0)
    reader.end()
    if whole.kind != NUMBER:
        raise ValueError(f"it is a {whole.kind}, and KEDA needs a number: give e.g. `... ? 1 : 0`")
    return Formula(frozenset(reader.named), reader.coalesces, whole.of)


def formula_of(text: str, names: Collection[str]) -> Formula:
    """ValueError in one line of what is wrong or not modelled. names: of the triggers that there are."""
    try:
        return _parsed(text, frozenset(names))
    except RecursionError:
        raise ValueError("it is nested too deep") from None


def in_milli(value: float) -> int:
    """In thousandths, cut off, as KEDA's pkg/scaling/modifiers/formula.go converts it."""
    return _int64(value * 1000)


def in_other_units(text: str, factors: Mapping[str, float]) -> str:
    """The same formula where each name stands for a value that is so many times smaller."""

    def other(match: re.Match[str]) -> str:
        factor = factors.get(match[0], 1.0)
        return match[0] if factor == 1.0 else f"({factor!r} * {match[0]})"

    return re.sub(r"(?<![\w#])[^\W\d]\w*", other, text)


@dataclass
class _Reader:
    """Reads by precedence, from the left (a Pratt parser)."""

    text: str
    names: frozenset[str]
    named: set[str] = field(default_factory=set)
    place: int = 0
    coalesces: bool = False
    elements: list[str] = field(default_factory=list)  # kinds of what # stands for, the innermost last

    def __post_init__(self) -> None:
        self.tokens = list(TOKEN.finditer(self.text.strip()))
        if len(self.tokens) > MOST_PARTS:
            raise ValueError(f"it has more than {MOST_PARTS} parts")

    @property
    def next(self) -> str:
        return self.tokens[self.place][0].strip() if self.place < len(self.tokens) else ""

    def takes(self, *signs: str) -> bool:
        """Is the next part one of these? Then it is read."""
        found = self.next in signs and self.next != ""
        self.place += found
        return found

    def expect(self, sign: str) -> None:
        if self.takes(sign):
            return
        if self.next in NOT_MODELLED:
            self.refuse()
        raise ValueError(f"'{sign}' is missing {f'before {self.next!r}' if self.next else 'at its end'}")

    def end(self) -> None:
        if self.next:
            self.refuse()

    def refuse(self) -> None:
        """The next part."""
        if not self.next:
            raise ValueError("it ends too early")
        if self.next in NOT_MODELLED:
            raise ValueError(f"'{self.next}' is not modelled: give a formula without it")
        if self.tokens[self.place]["text"]:
            raise ValueError("a text is not modelled: give numbers and names of triggers")
        raise ValueError(f"'{self.next}' is not expected")

    def expression(self, least: int) -> _Part:
        """As far as the operators bind at least so tightly."""
        left, before = self.primary(), ""
        while BINARY.get(self.next, -1) >= least:
            sign = self.next
            self.place += 1
            if sign in COMPARISONS and before in COMPARISONS:
                raise ValueError("a chain of comparisons is not modelled: join them by 'and'")
            if before == "??" != sign:
                raise ValueError(f"'{sign}' after '??' needs parentheses: give (... ?? ...) {sign} ...")
            before = sign
            self.coalesces |= sign == "??"
            right = self.expression(BINARY[sign] + (sign not in ("**", "^")))
            left = _joined(sign, left, right)
        while least == 0 and self.takes("?"):
            left = self.conditional(left)
        return left

    def conditional(self, condition: _Part) -> _Part:
        if condition.kind != TRUTH:
            raise ValueError(f"a condition is a truth value, not a {condition.kind}")
        then = self.expression(0)
        self.expect(":")
        other = self.expression(0)
        if then.kind != other.kind:
            raise ValueError(f"both sides of ':' are of one kind, not a {then.kind} and a {other.kind}")
        return _Part(then.kind, lambda values: then.of(values) if condition.of(values) else other.of(values))

    def primary(self) -> _Part:
        sign = self.next
        if self.takes(*UNARY):
            operand = self.expression(UNARY[sign])
            truth = sign in ("not", "!")
            _check(f"'{sign}'", TRUTH if truth else NUMBER, operand)
            apply = np.logical_not if truth else np.negative if sign == "-" else np.positive
            return _Part(operand.kind, lambda values: apply(operand.of(values)))
        if self.takes("("):
            inner = self.expression(0)
            self.expect(")")
            return inner
        if self.takes("["):
            return self.list_()
        if self.takes(POINTER):
            if not self.elements:
                raise ValueError("'#' stands in a predicate alone")
            depth = len(self.elements)
            return _Part(self.elements[-1], lambda values: values[f"{POINTER}{depth}"])
        if not sign or self.tokens[self.place]["text"] or self.tokens[self.place]["sign"] or sign in NOT_MODELLED:
            self.refuse()
        number = self.tokens[self.place]["number"]
        self.place += 1
        return self.number(number) if number else self.named_part(sign)

    def number(self, written: str) -> _Part:
        value = np.float64(written.replace("_", ""))
        if not math.isfinite(value):
            raise ValueError(f"'{written}' is too large")
        return _Part(NUMBER, lambda values: value)

    def named_part(self, name: str) -> _Part:
        if self.takes("("):
            return self.call(name)
        if name in ("true", "false"):
            return _Part(TRUTH, lambda values: name == "true")
        if name not in self.names:
            raise ValueError(f"'{name}' is no trigger's name: there are {', '.join(sorted(self.names)) or 'none'}")
        self.named.add(name)
        return _Part(NUMBER, lambda values: values[name])

    def list_(self) -> _Part:
        parts = self.parts("]")
        if not parts:
            raise ValueError("an empty list is not modelled")
        if len({part.kind for part in parts}) > 1 or parts[0].kind not in (NUMBER, TRUTH):
            raise ValueError("a list is of one kind: give numbers alone, or truth values alone")
        return _Part(f"list of {parts[0].kind}s", lambda values: [part.of(values) for part in parts])

    def parts(self, closing: str) -> list[_Part]:
        """Separated by commas, and maybe one after the last."""
        parts: list[_Part] = []
        while not self.takes(closing):
            if parts:
                self.expect(",")
                if self.takes(closing):
                    break
            parts.append(self.expression(0))
        return parts

    def call(self, name: str) -> _Part:
        if name in self.names:
            raise ValueError(f"{name}() is no function, as a trigger is named {name}: give that another name")
        if name in OF_LISTS:
            return self.call_of_list(name)
        if name not in FUNCTIONS:
            raise ValueError(f"the function {name}() is not modelled: known are {', '.join(FUNCTIONS)}")
        arguments = self.parts(")")
        if name in OF_ONE:
            if len(arguments) != 1:
                raise ValueError(f"{name}() takes one number, not {len(arguments)}")
            (argument,), one = arguments, OF_ONE[name]
            _check(f"{name}()", NUMBER, argument)
            return _Part(NUMBER, lambda values: one(argument.of(values)))
        if not arguments:
            raise ValueError(f"{name}() takes a number or more, or a list of them")
        for argument in arguments:
            if argument.kind != f"list of {NUMBER}s":
                _check(f"{name}()", NUMBER, argument)
        several = OF_SEVERAL[name]

        def numbers(values: Mapping[str, Any]) -> list[Any]:
            each = [argument.of(values) for argument in arguments]
            return [number for one in each for number in (one if isinstance(one, list) else [one])]

        return _Part(NUMBER, lambda values: several(numbers(values)))

    def call_of_list(self, name: str) -> _Part:
        """count(list, predicate) and its like; the predicate stands in braces, or without."""
        items, wanted = self.expression(0), NUMBER if name == "sum" else TRUTH
        if not items.kind.startswith("list of "):
            raise ValueError(f"{name}() takes a list, not a {items.kind}")
        predicate: _Part | None = None
        depth = len(self.elements) + 1
        if self.takes(",") and self.next != ")":
            self.elements.append(items.kind.removeprefix("list of ").removesuffix("s"))
            braces = self.takes("{")
            predicate = self.expression(0)
            if braces:
                self.expect("}")
            self.elements.pop()
            self.takes(",")
            _check(f"the predicate of {name}()", wanted, predicate)
        elif name not in OWN_ELEMENTS or items.kind != f"list of {wanted}s":
            raise ValueError(f"{name}() takes a predicate, e.g. {name}([...], {{# > 1}})")
        self.expect(")")
        function = OF_LISTS[name]

        def value(values: Mapping[str, Any]) -> Any:
            found = items.of(values)
            if predicate is None:
                return function(found)
            return function([predicate.of({**values, f"{POINTER}{depth}": item}) for item in found])

        return _Part(NUMBER if name in OWN_ELEMENTS else TRUTH, value)


def _joined(sign: str, left: _Part, right: _Part) -> _Part:
    if sign == "??":
        for part in (left, right):
            _check("'??'", NUMBER, part)
        return _Part(NUMBER, lambda values: right.of(values) if (found := left.of(values)) is None else found)
    function = (ARITHMETIC | COMPARISONS | JUNCTIONS)[sign]
    if sign in ("==", "!="):
        wanted = TRUTH if left.kind == TRUTH else NUMBER
    else:
        wanted = TRUTH if sign in JUNCTIONS else NUMBER
    for part in (left, right):
        _check(f"'{sign}'", wanted, part)
    kind = NUMBER if sign in ARITHMETIC else TRUTH
    return _Part(kind, lambda values: function(left.of(values), right.of(values)))


def _check(what: str, wanted: str, part: _Part) -> None:
    if part.kind != wanted:
        raise ValueError(f"{what} takes {wanted}s, not a {part.kind}")
