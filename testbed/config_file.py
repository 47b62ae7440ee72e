"""A configuration file: YAML or JSON, read once at the edge, with what it extends, its paths and a command's flags.

Unknown keys are refused with the nearest known one, in one line.

A path in a YAML file is relative to that file. A JSON file is what a command has kept of its configuration beside its
results: its paths are relative to the folder that kis is called in, so that a results folder goes with its checkout.
Flags are relative to that folder, too.
"""

from __future__ import annotations

import difflib
import itertools
import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, TypeGuard, TypeVar, Union, get_args, get_origin

import yaml
from pydantic import BaseModel, ValidationError

from testbed.errors import ConfigError
from workloads.catalog import CATALOG, CatalogError
from workloads.files import finite, read_text

T = TypeVar("T", bound=BaseModel)
FLAGS = "flags"  # where data comes from that was typed: an error names the flag
MOST_VALUES = 200_000  # of a document, with what its aliases stand for
MOST_DEPTH = 100  # pydantic writes 250
MERGE = "tag:yaml.org,2002:merge"  # << may stand there several times
POLICY_FILES = ("file", "tuned", "manifest")  # keys of a policy's settings, which no model describes, that name files


class UniqueKeys(yaml.SafeLoader):
    """YAML, in which a mapping has a key once: of two, one would be lost without a word.

    Aliases may not make much of little: a few lines could stand for more values than a machine has memory for, or
    contain themselves. Values that YAML knows and Python has not (a 31st of February, `0x`) are errors of YAML too.
    """

    def compose_document(self) -> yaml.Node | None:
        """See SafeLoader; MarkedYAMLError of aliases that stand for too much."""
        root: yaml.Node | None = super().compose_document()
        level, values, depth = [] if root is None else [root], 0, 0
        while level:
            values, depth = values + len(level), depth + 1
            if values > MOST_VALUES or depth > MOST_DEPTH:
                problem = f"has more than {MOST_VALUES:,} values, or more than {MOST_DEPTH} inside each other"
                raise yaml.MarkedYAMLError(problem=problem, problem_mark=level[0].start_mark)
            level = [inner for node in level for inner in _inside(node)]
        return root

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        """See SafeLoader."""
        try:
            value = super().construct_object(node, deep)
            if isinstance(value, float):
                finite(value)
            elif isinstance(value, str):
                value.encode()  # half a pair of UTF-16 is no letter, and cannot be written
            elif isinstance(value, bytes):
                raise ValueError("it is binary")
        except (ValueError, OverflowError, TypeError, AttributeError, KeyError) as error:
            problem = f"has a value that cannot be read ({error})"
            raise yaml.MarkedYAMLError(problem=problem, problem_mark=node.start_mark) from None
        if isinstance(value, int) and abs(value) >> 64:
            problem = "has a number beyond 64 bits"
            raise yaml.MarkedYAMLError(problem=problem, problem_mark=node.start_mark)
        return value

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """See SafeLoader; MarkedYAMLError of a second one."""
        seen = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode) and key.tag != MERGE:
                if key.value in seen:
                    problem = f"has the key {key.value!r} twice"
                    raise yaml.MarkedYAMLError(problem=problem, problem_mark=key.start_mark)
                seen.add(key.value)
        return super().construct_mapping(node, deep)


def _inside(node: yaml.Node) -> Iterable[yaml.Node]:
    if isinstance(node, yaml.MappingNode):
        return itertools.chain.from_iterable(node.value)
    return node.value if isinstance(node, yaml.SequenceNode) else ()


def parse_yaml(text: str) -> Any:
    """One document; yaml.YAMLError of what is none, and of what is nested more deeply than Python goes."""
    return _parsed(lambda: yaml.load(text, UniqueKeys))


def parse_documents(text: str) -> list[Any]:
    """Any number of documents; as above."""
    return list(_parsed(lambda: list(yaml.load_all(text, UniqueKeys))))


def _parsed(load: Callable[[], Any]) -> Any:
    try:
        return load()
    except RecursionError:
        raise yaml.YAMLError("it is nested too deeply") from None


def load_config(path: Path, kind: type[T], overrides: dict[str, Any] | None = None) -> T:
    """Read a YAML file as `kind`; ConfigError names the key, its place in the file, and the nearest known key.

    A mapping with `extends: FILE` (beside the file that says so) has that file's keys under its own; see merge.
    overrides: from flags.
    """
    return build(kind, merge(_read(path, (), kind), overrides or {}), str(path), overrides)


def keys_of(path: Path) -> frozenset[str]:
    """Of the file's mapping."""
    return frozenset(_read(path, (), None))


def read_key(path: Path, key: str) -> str:
    """A word of a YAML file that says which model the whole is; ConfigError without it."""
    value = _read(path, (), None).get(key)
    if not isinstance(value, str):
        raise ConfigError(f"{path}: {key} is missing, or no word: give one")
    return value


def _read(path: Path, readers: tuple[Path, ...], kind: Any) -> dict[str, Any]:
    """A file's mapping, what it extends included. readers: the files that led to it; kind: what it is to be."""
    if path in readers:
        raise ConfigError(f"{readers[-1]}: extends {path}, which extends it: end the circle")
    of_whom = f"{readers[-1]}: extends {path}" if readers else str(path)
    data = read_yaml(path, parse_yaml, of_whom)
    if not isinstance(data, dict):
        raise ConfigError(f"{path} holds no mapping of keys: see testbed/configs/ for examples")
    resolved: dict[str, Any] = _resolved(data, kind, path, readers)
    return resolved


def read_yaml(path: Path, load: Callable[[str], Any], of_whom: str | None = None) -> Any:
    """What `load` makes of the file's text; ConfigError where it is none, or no YAML. of_whom: who asks for it."""
    try:
        return load(read_text(path))
    except IsADirectoryError:
        raise ConfigError(f"{path} is a folder: give a configuration file (YAML); --out is the folder") from None
    except OSError as error:
        instead = f"did you mean --model {path}?" if str(path) in CATALOG else "give a configuration file"
        raise ConfigError(f"{of_whom or path}: {error.strerror}: {instead}") from None
    except ValueError as error:  # no name of a file, or no text in it
        raise ConfigError(f"{path} is not a text file ({error}): give a configuration file (YAML)") from None
    except yaml.YAMLError as error:
        # What was not closed began at the context's mark; the problem's is where the reader gave up.
        mark = getattr(error, "context_mark", None) or getattr(error, "problem_mark", None)
        where = f", line {mark.line + 1}," if mark else ""
        raise ConfigError(f"{path}{where} is not YAML: {why(error)}") from None


def why(error: yaml.YAMLError) -> str:
    """What a text is not YAML for."""
    reason = getattr(error, "reason", None)  # of the characters, not of what they say
    return str(getattr(error, "problem", None) or reason or (error.args[0] if error.args else "check its syntax"))


def _resolved(data: Any, kind: Any, path: Path, readers: tuple[Path, ...]) -> Any:
    """Plain data of `path`: every `extends` in it replaced by that file's keys, its paths as seen from here."""
    if isinstance(data, list):
        return [_resolved(item, _kind_of_item(kind, number), path, readers) for number, item in enumerate(data)]
    if isinstance(data, str):
        return _from_here(data, path) if Path in alternatives(kind) else data
    if not isinstance(data, dict):
        return data
    items = ((key, value) for key, value in data.items() if key != "extends")
    own = {key: _resolved(value, _kind_of_item(kind, key), path, readers) for key, value in items}
    if "extends" not in data:
        return own
    if not isinstance(data["extends"], str):
        raise ConfigError(f"{path}: extends is {data['extends']!r}: give the name of a file beside it")
    return merge(_read(path.parent / data["extends"], (*readers, path), kind), own)


def _kind_of_item(kind: Any, key: Any) -> Any:
    """The annotation of what lies under a key of a mapping, or in a list; None: nothing is known of it."""
    for alternative in alternatives(kind):
        if isinstance(alternative, type) and issubclass(alternative, BaseModel):
            return alternative.model_fields[key].annotation if key in alternative.model_fields else None
        inner = (
            get_args(alternative)[-1 if get_origin(alternative) is dict else 0]
            if get_args(alternative)
            else alternative
        )
        return Path if inner is Any and key in POLICY_FILES else inner
    return None


def alternatives(kind: Any) -> Iterator[Any]:
    """The types that an annotation allows, without None."""
    if get_origin(kind) is Annotated:
        yield from alternatives(get_args(kind)[0])
    elif get_origin(kind) in (Union, UnionType):
        for argument in get_args(kind):
            yield from alternatives(argument)
    elif kind is not type(None):
        yield kind


def _from_here(text: str, path: Path) -> str:
    """A path that stands in the file `path`: relative to the current folder if it is below that, else absolute."""
    if path.suffix == ".json" or Path(text).is_absolute():
        return text
    whole, here = Path(os.path.normpath(path.parent.resolve() / text)), Path.cwd()
    return str(whole.relative_to(here) if whole.is_relative_to(here) else whole)


def build(kind: type[T], data: dict[str, Any], where: str, flags: dict[str, Any] | None = None) -> T:
    """Validate plain data as `kind`; ConfigError in one line otherwise. flags: what of the data came from flags."""
    try:
        return kind.model_validate(data)
    except ValidationError as error:
        where = FLAGS if _is_in(flags, error.errors()[0]["loc"]) else where
        raise refused(kind, error, where) from None
    except CatalogError as error:
        raise ConfigError(f"{where}: {error}") from None


def refused(kind: type[BaseModel], error: ValidationError, where: str) -> ConfigError:
    """What pydantic found wrong with data for `kind`, in one line."""
    return ConfigError(_explain(kind, error, where))


def _is_in(data: Any, place: tuple[int | str, ...]) -> bool:
    """Does that place lie in the data, or beyond a value of it?"""
    for step in place:
        if not isinstance(data, dict) or step not in data:
            return bool(data) and not isinstance(data, dict)
        data = data[step]
    return bool(place)


def merge(data: dict[str, Any], overrides: dict[str, Any]) -> dict[str, Any]:
    """`overrides` over `data`, mapping by mapping; items of lists that have a `name`, by that name."""
    out = dict(data)
    for key, value in overrides.items():
        inner = out.get(key)
        if isinstance(value, dict) and isinstance(inner, dict):
            out[key] = merge(inner, value)
        elif _are_named(value) and _are_named(inner):
            own = {item["name"]: item for item in value}
            old = {item["name"]: item for item in inner}
            out[key] = [merge(item, own.get(name, {})) for name, item in old.items()]
            out[key] += [item for name, item in own.items() if name not in old]
        else:
            out[key] = value
    return out


def _are_named(value: Any) -> TypeGuard[list[dict[str, Any]]]:
    return isinstance(value, list) and all(isinstance(item, dict) and "name" in item for item in value)


def _explain(kind: type[BaseModel], error: ValidationError, where: str) -> str:
    unknown = [problem for problem in error.errors() if problem["type"] == "extra_forbidden"]
    first = (unknown or error.errors())[0]  # a misspelt key is why another one is missing
    place = ".".join(map(str, first["loc"]))
    if where == FLAGS and place:
        where, place = _flag_and_place(first["loc"])
    named = f"{where}: {place}" if place else where
    if first["type"] == "extra_forbidden":
        known = _fields_at(kind, first["loc"][:-1])
        near = difflib.get_close_matches(str(first["loc"][-1]), known, n=1)
        hint = f"did you mean '{near[0]}'?" if near else "known keys: " + ", ".join(sorted(known))
        unknown_key = ".".join(map(str, first["loc"]))
        return f"{where}: unknown key '{unknown_key}': {hint}"
    if first["type"] == "missing":
        return f"{named} is missing"
    message = "give a list" if first["type"] in ("tuple_type", "list_type") else first["msg"]
    message = message.removeprefix("Value error, ")
    given = first.get("input")
    shown = "" if isinstance(given, (dict, list, tuple, BaseModel)) else f" (got {given!r})"
    return f"{named}: {message}{shown}"


def _flag_and_place(location: tuple[int | str, ...]) -> tuple[str, str]:
    """The flag of a key, and the whole place where that lies in an item of the flag's list; else empty."""
    keys = list(itertools.takewhile(lambda step: isinstance(step, str), location))
    flag = "--" + ".".join(map(str, keys)).replace("_", "-")
    return flag, ".".join(map(str, location)) if len(keys) < len(location) else ""


def _fields_at(kind: type[BaseModel], location: tuple[int | str, ...]) -> list[str]:
    """Names of the keys that a place in the configuration may have."""
    for step in location:
        fields = {field.alias or name: field for name, field in kind.model_fields.items()}
        if isinstance(step, int) or step not in fields:
            continue
        inner_model = _model_inside(fields[step].annotation)
        if inner_model is None:
            return []
        kind = inner_model
    return [field.alias or name for name, field in kind.model_fields.items()]


def _model_inside(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    for part in getattr(annotation, "__args__", ()):
        inner_model = _model_inside(part)
        if inner_model is not None:
            return inner_model
    return None
