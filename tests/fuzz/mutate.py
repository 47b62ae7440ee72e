"""Wrong inputs made from right ones, by a seeded generator: of the parsed tree, of lines, and of bytes."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Callable
from typing import Any, Literal

import yaml

Form = Literal["json", "yaml", "jsonl", "text", "bytes", "parquet", "onnx"]
LONGEST = 1 << 18  # bytes of an input: what is slow or large then is so by more than its size
RAW = "\x02"  # begins a text that is written into JSON without quotes: numbers that Python has not
NUMBERS = (
    "1e400",
    "-1e400",
    "NaN",
    "Infinity",
    "-Infinity",
    "-0",
    "-0.0",
    "1" + "0" * 400,
    "9" * 5000,
    "1e-400",
    "0x_",
)
WORDS = (
    *("", " ", "null", "~", "true", "no", ".nan", ".inf", "-.inf", "nan", "inf", "1e400", "1e308", "-1", "0", "1e9"),
    *(
        "9223372036854775807",
        "9223372036854775808",
        "-9223372036854775809",
        "1" + "0" * 400,
        "٣",
        "1_000",
        "0b_",
        "0x_",
    ),
    *(
        "../../../etc/passwd",
        "/etc/passwd",
        "/dev/zero",
        "..",
        ".",
        "a/b",
        "a\\b",
        "C:\\a",
        "\0",
        "a\0b",
        "~root",
        "%00",
    ),
    *(
        "\ufeff",
        "\ud800",
        "\u202e",
        "\x1b[31m",
        "\r",
        "\n",
        "é",
        "1:30:00",
        "2024-13-45",
        "2024-02-30T25:61:61Z",
        "!!int x",
    ),
    *("!!python/object:os.system x", "*a", "&a", "<<", "{{ .Values.x }}", "$(id)", "a=b", "a:b", "::", "a, b", "1..2"),
    *(
        "9999-12-31T23:59:59Z",
        "0001-01-01T00:00:00Z",
        "-1s",
        "1e999s",
        "1Ei",
        "500m",
        "1e3m",
        "NaNm",
        "x" * 5000,
        "a" * 300,
    ),
)
VALUES: tuple[Any, ...] = (
    *(None, True, False, 0, -1, 1, 2, 0.5, -0.0, 1e308, 5e-324, 2**31, 2**63, -(2**63) - 1, 10**400, "", [], {}, [[]]),
    *(*[RAW + number for number in NUMBERS], *WORDS),
)
BYTES = (
    *(b"\0", b"\xff\xfe", b"\xef\xbb\xbf", b"\x1f\x8b", b"PK\x03\x04", b"\xc3", b"\xed\xa0\x80", b"\n", b"\r", b"\x85"),
    *(
        b"[" * 3000,
        b"{" * 3000,
        b"- " * 2000,
        b"(" * 2000,
        b'{"a":' * 3000,
        b'"',
        b"'",
        b"\\",
        b"%",
        b"&a ",
        b"*a",
        b"!!",
    ),
    *(b"1" * 5000, b"1e400", b"NaN", b"-", b",", b";", b":", b"\t", b"#", b"---\n", b"...", b"x" * 70000, b" " * 5000),
)
DEEP = 2000


def mutated(data: bytes, form: Form, rng: random.Random, others: tuple[bytes, ...] = ()) -> bytes:
    """Another input, mostly near `data`. others: of the same kind, parts of which may stand in it."""
    if form in ("parquet", "onnx") and rng.random() < 0.75:
        from tests.fuzz import tables  # it mutates what is in its tables as this module does

        return tables.other_table(data, rng) if form == "parquet" else tables.other_network(data, rng)
    ways = {"json": _tree_json, "yaml": _tree_yaml, "jsonl": _json_lines, "text": _lines}
    for _ in range(1 + (rng.random() < 0.35) + (rng.random() < 0.15)):
        way = _bytes if rng.random() < 0.25 else ways.get(form, _bytes)
        data = way(data, rng, others)
    if rng.random() < 0.03:
        data = _encoded(data, rng)
    return data[:LONGEST]


def _encoded(data: bytes, rng: random.Random) -> bytes:
    text = data.decode("utf-8", "replace")
    return text.encode(
        rng.choice(("utf-16", "utf-16-le", "utf-32", "utf-8-sig", "latin-1", "cp037", "utf-7")), "replace"
    )


# --- bytes


def _bytes(data: bytes, rng: random.Random, others: tuple[bytes, ...]) -> bytes:  # noqa: PLR0911
    at = rng.randrange(len(data) + 1)
    end = min(len(data), at + rng.choice((1, 1, 2, 4, 16, 64, 1024)))
    part = data[at:end]
    choice = rng.randrange(10)
    if choice == 0:
        return data[:at] + data[end:]
    if choice == 1:
        return data[:end] + part * rng.choice((1, 2, 3, 100, 3000)) + data[end:]
    if choice == 2:
        return data[:at]
    if choice == 3 and others:
        other = rng.choice(others)
        return data[:at] + other[rng.randrange(len(other) + 1) :]
    if choice == 4 and data:
        where = rng.randrange(len(data))
        return data[:where] + bytes([data[where] ^ (1 << rng.randrange(8))]) + data[where + 1 :]
    if choice == 5:
        return data[:at] + rng.randbytes(rng.choice((1, 2, 8))) + data[end:]
    if choice == 6:
        return _other_number(data, rng)
    token = rng.choice(BYTES) if choice < 9 else rng.choice(WORDS).encode("utf-8", "surrogatepass")
    return data[:at] + token + data[at if rng.random() < 0.7 else end :]


def _other_number(data: bytes, rng: random.Random) -> bytes:
    found = list(re.finditer(rb"-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?", data[:20000]))
    if not found:
        return data
    match = rng.choice(found)
    number = rng.choice(NUMBERS if rng.random() < 0.7 else WORDS).encode("utf-8", "surrogatepass")
    return data[: match.start()] + number + data[match.end() :]


# --- lines


def _lines(data: bytes, rng: random.Random, others: tuple[bytes, ...]) -> bytes:
    lines = data.split(b"\n")
    at = rng.randrange(len(lines))
    choice = rng.randrange(8)
    if choice == 0:
        del lines[at]
    elif choice == 1:
        lines.insert(at, lines[rng.randrange(len(lines))])
    elif choice == 2:
        other = rng.randrange(len(lines))
        lines[at], lines[other] = lines[other], lines[at]
    elif choice == 3:
        lines[at : at + 1] = [lines[at]] * rng.choice((2, 10, 500))
    else:
        lines[at] = _field(lines[at], rng)
    return b"\n".join(lines)


def _field(line: bytes, rng: random.Random) -> bytes:
    """Another value between two separators."""
    separator = rng.choice(
        [each for each in (b",", b" ", b";", b'"', b"=", b"\t", b":", b"/", b"[") if each in line] or [b","]
    )
    fields = line.split(separator)
    at = rng.randrange(len(fields))
    choice = rng.randrange(5)
    if choice == 0:
        del fields[at]
    elif choice == 1:
        fields.insert(at, fields[at])
    else:
        fields[at] = rng.choice(WORDS).encode("utf-8", "surrogatepass")
    return separator.join(fields)


# --- trees


def _tree_json(data: bytes, rng: random.Random, others: tuple[bytes, ...]) -> bytes:
    try:
        tree = json.loads(data)
    except (ValueError, RecursionError):
        return _bytes(data, rng, others)
    try:
        return _as_json(_changed(tree, rng), ascii_only=rng.random() < 0.5).encode("utf-8", "surrogatepass")
    except (RecursionError, ValueError, TypeError):
        return _bytes(data, rng, others)


def _json_lines(data: bytes, rng: random.Random, others: tuple[bytes, ...]) -> bytes:
    lines = data.split(b"\n")
    if rng.random() < 0.2:
        return _lines(data, rng, others)
    at = rng.randrange(len(lines))
    lines[at] = _tree_json(lines[at], rng, others)
    return b"\n".join(lines)


def _tree_yaml(data: bytes, rng: random.Random, others: tuple[bytes, ...]) -> bytes:
    try:
        trees = list(yaml.load_all(data, yaml.CSafeLoader))
    except (yaml.YAMLError, ValueError, RecursionError, TypeError):
        return _bytes(data, rng, others)
    if not trees:
        return _bytes(data, rng, others)
    at = rng.randrange(len(trees))
    try:
        trees[at] = _changed(trees[at], rng)
        # Flow style is JSON with dates: one way to write a tree.
        return "\n---\n".join(_as_json(tree) for tree in trees).encode("utf-8", "surrogatepass")
    except (RecursionError, ValueError, TypeError):  # what was changed before is too deep, or a key no text
        return _bytes(data, rng, others)


def _changed(tree: Any, rng: random.Random) -> Any:
    places = list(_places(tree))
    if not places:
        return rng.choice(VALUES)
    holder, key = rng.choice(places)
    value, choice = holder[key], rng.randrange(12)
    if choice == 0:
        del holder[key]
    elif choice == 1 and isinstance(holder, dict):
        holder[_misspelt(str(key), rng)] = holder.pop(key)
    elif choice == 2:
        holder[key] = [value] * rng.choice((0, 1, 2, 300))
    elif choice == 3:
        holder[key] = {str(rng.choice(WORDS)): value}
    elif choice == 4:
        other, name = rng.choice(places)
        holder[key] = (
            other[name]
            if not isinstance(other[name], (dict, list))
            else json.loads(json.dumps(other[name], default=str))
        )
    elif choice == 5:
        holder[key] = _deep(value, rng)
    elif choice == 6 and isinstance(value, str) and value:
        holder[key] = _misspelt(value, rng)
    elif choice == 7 and isinstance(value, (int, float)) and not isinstance(value, bool):
        holder[key] = rng.choice((-value, value * 10**9, value // 3, value + 1, value - 1, 0, str(value), [value]))
    elif choice == 8 and isinstance(holder, dict):
        holder[rng.choice(WORDS)] = rng.choice(VALUES)
    else:
        holder[key] = rng.choice(VALUES)
    return tree


def _places(tree: Any) -> list[tuple[Any, Any]]:
    found: list[tuple[Any, Any]] = []
    waiting = [tree]
    while waiting and len(found) < 5000:
        one = waiting.pop()
        items = one.items() if isinstance(one, dict) else enumerate(one) if isinstance(one, list) else ()
        for key, value in items:
            found.append((one, key))
            waiting.append(value)
    return found


def _deep(value: Any, rng: random.Random) -> Any:
    """As text: Python's own writers do not go so deep."""
    depth = rng.choice((5, 5, 30, 30, 100, 400, DEEP))
    if rng.random() < 0.5:
        return RAW + "[" * depth + "1" + "]" * depth
    return RAW + '{"a":' * depth + "1" + "}" * depth


def _misspelt(text: str, rng: random.Random) -> str:
    at = rng.randrange(len(text) + 1)
    ways: tuple[Callable[[], str], ...] = (
        lambda: text[:at] + text[at + 1 :],
        lambda: text[:at] + rng.choice("xX_-. :/=,\0é\ud800\n") + text[at:],
        text.upper,
        lambda: text + rng.choice(WORDS),
        lambda: text * 30,
    )
    return rng.choice(ways)()


def _as_json(tree: Any, *, ascii_only: bool = False) -> str:
    text = json.dumps(tree, default=str, ensure_ascii=ascii_only)
    return re.sub(r'"\\u0002((?:[^"\\]|\\.)*)"', lambda match: match[1].replace('\\"', '"'), text)
