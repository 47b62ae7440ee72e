"""Inputs that no small change of a right one becomes: bombs, deep nesting, aliases, paths, numbers, encodings."""

from __future__ import annotations

import gzip
import io
import json
from collections.abc import Iterator
from typing import Any

from tests.fuzz import mutate
from tests.fuzz.readers import Reader

DEEP = 20_000
LAUGHS = "\n".join(
    ["a0: &a0 [x, x, x, x, x, x, x, x, x]", *(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 12))]
)
MERGES = "\n".join(
    ["m0: &m0 {k0: 1}", *(f"m{n}: &m{n} {{<<: [{', '.join([f'*m{n - 1}'] * 9)}], k{n}: 1}}" for n in range(1, 12))]
)
_TEXTS = ("", "\n", "\0", "\ufeff", "[]", "{}", "null", "NaN", "1e400", "-0", "1" * 10_000, "'", '"', "x" * 300_000)
_DEEP = ("[" * DEEP, "[" * DEEP + "]" * DEEP, '{"a":' * DEEP, "- " * 5000, "{a: " * 3000, "(" * DEEP)
_YAML = (
    LAUGHS,
    MERGES,
    "a: &a [*a]",
    "a: &a {b: *a}",
    "&a *a",
    "a: !!python/object/apply:os.system [id]",
    "? [a]\n: b",
)
_MORE_YAML = (
    "a: 2024-02-31",
    "a: 0x",
    "a: 0b_",
    "a: .inf",
    "a: 1e400",
    "a: " + "1:" * 5000 + "1",
    "a: !!binary x",
    "<<: 5",
)
_ENCODED = ("utf-16", "utf-16-le", "utf-32", "latin-1", "cp037")


def specials(reader: Reader) -> Iterator[bytes]:
    """For any reader; those that suit its form, and its first seed in other encodings and with other numbers."""
    yield from (text.encode() for text in (*_TEXTS, *_DEEP))
    if reader.form == "yaml":
        yield from (text.encode() for text in (*_YAML, *_MORE_YAML))
    seed = reader.seeds()[0]
    yield from (
        b"\xef\xbb\xbf" + seed,
        b"\0" + seed,
        seed + b"\0",
        seed[: len(seed) // 2],
        gzip.compress(seed),
        b"\xff" * 1000,
    )
    if reader.form in ("parquet", "onnx", "bytes"):
        return
    text = seed.decode()
    yield from (text.encode(encoding, "replace") for encoding in _ENCODED)
    if reader.form in ("json", "yaml"):
        yield from with_each_number(json.loads(text))


def with_each_number(tree: Any) -> Iterator[bytes]:
    """The tree, in which the first three numbers are in turn each number that is none."""
    numbers = [
        place
        for place in mutate._places(tree)
        if isinstance(place[0][place[1]], int | float) and place[0][place[1]] is not True
    ]
    for holder, key in numbers[:3]:
        before = holder[key]
        for number in mutate.NUMBERS:
            holder[key] = mutate.RAW + number
            yield mutate._as_json(tree).encode()
        holder[key] = before


def gzip_bomb(beginning: bytes, letter: bytes, length: int) -> bytes:
    """A gzip file of some kilobytes whose last line is that long."""
    out = io.BytesIO()
    with gzip.GzipFile(fileobj=out, mode="wb", compresslevel=9) as file:
        file.write(beginning)
        for _ in range(length >> 20):
            file.write(letter * (1 << 20))
    return out.getvalue()
