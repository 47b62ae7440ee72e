"""Formulas of KEDA's scalingModifiers: what they come to, and what is refused."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from testbed.autoscaling.formula import NilError, formula_of, in_milli, in_other_units

VALUES = {"one": 4.0, "two": 10.0, "idle": 0.0}


def value_of(text: str) -> float:
    value = formula_of(text, VALUES).value(VALUES)
    assert value is not None
    return value


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("one", 4),
        ("(one + two) / 2", 7),  # the examples of KEDA's documentation
        ("one > 2 ? one + two : 1", 14),
        ("count([one, two, idle], {#>1}) > 1 ? 5 : 0", 5),
        ("one < 2 ? one + two >= 2 ? 5 : 10 : 0", 0),
        ("idle < 2 ? idle + one >= 2 ? 5 : 10 : 0", 5),
        ("float(one)", 4),
        ("one - two - 1", -7),  # from the left
        ("2 ** 3 ** 2", 512),  # from the right
        ("-one ^ 2", -16),  # a power before a sign
        ("one + two * 2", 24),
        ("1 / 4 * one", 1),  # a division of whole numbers has a fraction
        ("1_000 * .5e1 + one", 5004),
        ("max(one, two, idle)", 10),
        ("min([one, two])", 4),
        ("mean(one, two)", 7),
        ("median([one, two, idle])", 4),
        ("median(one, idle / idle, two)", 4),  # what is no number is the smallest
        ("sum([one, two])", 14),
        ("sum([one, two], {# * 2})", 28),
        ("abs(idle - one)", 4),
        ("ceil(one / 3) + floor(one / 3)", 3),
        ("round(2.5) + round(-2.5) + round(0.49999999999999994)", 0),
        ("int(-1.9)", -1),
        ("count([one > 5, two > 5]) * 10", 10),
        ("any([one, two], # > 5) and !all([one, two], # > 5) ? 1 : 0", 1),
        ("not none([one, two], {# > 5}) ? 1 : 0", 1),
        ("int(one / idle) / 2 ** 62", -2),  # on x86-64
        ("one > 5 or two > 5 && idle > 5 ? 1 : 0", 0),  # `and` before `or`
        ("one > 3 || true ? 1 : 0", 1),
        ("(one > 3) == true ? 1 : 0", 1),
        ("one != 4 ? 1 : 2", 2),
        ("count([one, two,], {#>1},)", 2),
        ("one ?? two", 4),
        ("2 * one ?? two + 1", 9),
    ],
)
def test_a_formula_comes_to_what_expr_makes_of_it(text: str, value: float) -> None:
    """As expr 1.17.7 answers, compiled and run as KEDA does."""
    assert value_of(text) == value


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("lost ?? one", 4),
        ("lost ?? gone ?? 8", 8),
        ("1 + (lost ?? two) * 2", 21),
        ("lost ?? gone", None),
        ("(lost ?? 1) + (lost == 1 ? 5 : 3)", 4),  # nil equals nothing
        ("max(lost ?? 1, one)", 4),
    ],
)
def test_nil_gives_way(text: str, value: float | None) -> None:
    """As expr 1.17.8 answers."""
    values = {"one": 4.0, "two": 10.0, "lost": None, "gone": None}
    assert formula_of(text, values).value(values) == value


@pytest.mark.parametrize(
    "text",
    ["lost", "lost + 1", "(lost ?? gone) + 1", "max(lost, 1)", "lost > 1 ? 1 : 0", "-lost", "sum([lost])", "abs(lost)"],
)
def test_nothing_is_computed_with_nil(text: str) -> None:
    values = {"lost": None, "gone": None}
    with pytest.raises(NilError):
        formula_of(text, values).value(values)


def test_a_trigger_takes_the_place_of_a_function_of_its_name() -> None:
    assert formula_of("one([a, b], {# > 5}) ? 1 : 0", ("a", "b")).value({"a": 4, "b": 10}) == 1
    with pytest.raises(ValueError, match=r"one\(\) is no function, as a trigger is named one: give that another name"):
        formula_of("one([one], {# > 5}) ? 1 : 0", ("one",))


def test_it_knows_the_triggers_that_it_names() -> None:
    assert formula_of("max(one, 3) + count([two], {# > one})", VALUES).names == {"one", "two"}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "it ends too early"),
        ("one +", "it ends too early"),
        ("(one", "'\\)' is missing at its end"),
        ("one two", "'two' is not expected"),
        ("three + one", "'three' is no trigger's name: there are idle, one, two"),
        ("one > 2", "it is a truth value, and KEDA needs a number"),
        ("float(one > 2)", "float\\(\\) takes numbers, not a truth value"),
        ("one ? 1 : 0", "a condition is a truth value, not a number"),
        ("one > 2 ? 1 : false", "both sides of ':' are of one kind"),
        ("one > 2 and two", "'and' takes truth values, not a number"),
        ("one + (two > 1)", "'\\+' takes numbers, not a truth value"),
        ("1 < one < 3", "a chain of comparisons is not modelled"),
        ("one % 2", "'%' is not modelled"),
        ("one ?? 2 + 1", "'\\+' after '\\?\\?' needs parentheses"),
        ("one ?? true", "'\\?\\?' takes numbers, not a truth value"),
        ("one | max(2)", "'\\|' is not modelled"),
        ("(one | max(2))", "'\\|' is not modelled"),
        ("one in [1, 2] ? 1 : 0", "'in' is not modelled"),
        ("let x = one; x", "'let' is not modelled"),
        ("nil", "'nil' is not modelled"),
        ("'one'", "a text is not modelled"),
        ("1..3", "'\\.\\.' is not modelled"),
        ("[one, two][0]", "'\\[' is not expected"),
        ("one.x", "'\\.' is not modelled"),
        ("len([one])", "the function len\\(\\) is not modelled: known are abs, all, "),
        ("__import__('os')", "the function __import__\\(\\) is not modelled"),
        ("#", "'#' stands in a predicate alone"),
        ("max()", "max\\(\\) takes a number or more"),
        ("abs(one, two)", "abs\\(\\) takes one number"),
        ("sum(one, two)", "sum\\(\\) takes a list"),
        ("count([one, two])", "count\\(\\) takes a predicate"),
        ("[one, two > 1]", "a list is of one kind"),
        ("[]", "an empty list is not modelled"),
        ("[one]", "it is a list of numbers, and KEDA needs a number"),
        ("1" + " + 1" * 200, "it has more than 200 parts"),
        ("one // a comment", "'//' is not modelled"),
        ("1e999", "'1e999' is too large"),
    ],
)
def test_what_is_not_modelled_is_named(text: str, said: str) -> None:
    with pytest.raises(ValueError, match=said) as told:
        formula_of(text, VALUES)
    assert "\n" not in str(told.value)


@pytest.mark.parametrize(("value", "milli"), [(7.0, 7000), (1.9999, 1999), (-0.0015, -1), (0.1 + 0.2, 300)])
def test_a_value_is_cut_to_thousandths(value: float, milli: int) -> None:
    assert in_milli(value) == milli


@pytest.mark.parametrize("text", ["one / idle", "idle / idle", "-one / idle", "10 ** 400", "(-1) ** 0.5"])
def test_what_is_no_number_is_the_smallest_one_as_on_x86(text: str) -> None:
    assert in_milli(value_of(text)) == -(2**63)


def test_names_are_given_in_other_units() -> None:
    text = in_other_units("wait > 5 ? wait2 : 1e3 * wait", {"wait": 1000.0, "wait2": 1.0})
    assert in_other_units("1e3 * e3", {"e3": 2.0}) == "1e3 * (2.0 * e3)"  # an exponent is no name
    assert text == "(1000.0 * wait) > 5 ? wait2 : 1e3 * (1000.0 * wait)"


numbers = st.integers(0, 99).map(str)
chains = st.lists(st.tuples(st.sampled_from(["+", "-", "*"]), numbers | st.just("one")), min_size=1, max_size=12)


@settings(max_examples=200, deadline=None)
@given(first=numbers, rest=chains, grouped=st.integers(0, 11))
def test_arithmetic_is_pythons(first: str, rest: list[tuple[str, str]], grouped: int) -> None:
    """Of +, - and * the rules are Python's, also with parentheses."""
    parts = [first, *(f" {sign} {number}" for sign, number in rest)]
    text = "".join([*parts[:grouped], " + (", *(parts[grouped:] or ["1"]), ")"]) if grouped else "".join(parts)
    text = text.replace("( +", "(0 +").replace("( -", "(0 -").replace("( *", "(0 *")
    expected = eval(text, {"one": 4})
    assert math.isclose(value_of(text), expected, rel_tol=1e-12)


@settings(max_examples=300, deadline=None)
@given(st.text(alphabet="ab1.+-*/%^<>=!?:,|&#(){}[] \"'onetwandmx", max_size=40))
def test_any_text_is_a_formula_or_refused_in_one_line(text: str) -> None:
    refusal = ""
    try:
        assert isinstance(value_of(text), float)
    except ValueError as told:
        refusal = str(told)
    assert "\n" not in refusal
