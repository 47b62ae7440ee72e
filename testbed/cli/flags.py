"""A flag for each key of a command's configuration model; its help is the key's description.

    @flags(EvaluateConfig, usual=["seeds"])
    def evaluate(given: Given, config: options.Config, out: options.Out = None) -> None:
        settings = configured(EvaluateConfig, config, given)

A key inside a key has a dot: --client.max-in-flight 100. A list is --gpus 0,1, repeated flags, or YAML
(--gpus '[0, 1]'); a mapping is NAME=VALUE, repeated, or YAML. What was typed goes over the file's keys before anything
is validated.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import is_dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, TypeVar, get_args, get_origin, get_type_hints

import typer
import yaml
from pydantic import BaseModel
from pydantic.fields import FieldInfo
from rich.markup import escape
from rich.text import Text
from typer import rich_utils

from testbed.config_file import FLAGS, alternatives, build, load_config, merge, parse_yaml, why
from testbed.errors import ConfigError

T = TypeVar("T", bound=BaseModel)
Given = dict[str, Any]  # what was typed, nested as the model is
Command = Callable[..., None]
WORDS = {"true": True, "false": False, "null": None}


class Short(NamedTuple):
    """A usual flag whose name is not the last word of its key. help: instead of the key's.

    value: the key's, of the texts that were typed, if they are typed otherwise than the key's own flag takes them.
    """

    name: str
    key: str
    help: str = ""
    value: Callable[[list[str]], Any] | None = None


class Flag(NamedTuple):
    """One option of a command. value: the key's, of what was typed."""

    names: tuple[str, ...]
    path: tuple[str, ...]
    type: Any
    metavar: str | None
    help: str
    value: Callable[[Any], Any]
    panel: str | None = None

    @property
    def identifier(self) -> str:
        """Of its parameter."""
        return self.names[0].strip("-").replace("-", "_").replace(".", "__")

    @property
    def parameter(self) -> inspect.Parameter:
        """For typer."""
        names = [f"{name}/--no-{name[2:]}" if self.type is bool else name for name in self.names]
        option = typer.Option(*names, help=escape(self.help), metavar=self.metavar, rich_help_panel=self.panel)
        annotation: Any = Annotated[self.type | None, option]
        return inspect.Parameter(self.identifier, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=annotation)


def flags(*models: type[BaseModel], usual: Sequence[str | Short] = ()) -> Callable[[Command], Command]:
    """A command whose flags are the keys of these models; of a key that several have, the first one's.

    What was typed is the command's parameter `given`. usual: keys that the help shows first; the last word of such a
    key is a flag, too.
    """
    keys: dict[tuple[str, ...], Flag] = {}
    for model in models:
        before = {path[0] for path in keys}
        keys |= {flag.path: flag for flag in _flags_of(model) if flag.path[0] not in before}
    first = [_usual(flag, keys) for flag in usual]

    def decorate(command: Command) -> Command:
        hints = get_type_hints(command, include_extras=True)
        own = [
            parameter.replace(annotation=hints[name], kind=parameter.KEYWORD_ONLY)
            for name, parameter in inspect.signature(command).parameters.items()
            if name != "given"
        ]

        def run(**arguments: Any) -> None:
            given: Given = {}
            for flag in (*first, *keys.values()):
                value = arguments.pop(flag.identifier)
                if value not in (None, [], ()):
                    given = merge(given, _nested(flag.path, flag.value(value)))
            command(given=given, **arguments)

        parameters = [*(flag.parameter for flag in first), *own, *(flag.parameter for flag in keys.values())]
        run.__name__, run.__doc__ = command.__name__, command.__doc__
        run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        return run

    return decorate


def configured(kind: type[T], file: Path | None, given: Given) -> T:
    """The configuration of a command: its file, or the defaults, with the flags that were given on top."""
    return build(kind, given, FLAGS) if file is None else load_config(file, kind, given)


def typed(given: Given, above: str = "--") -> Iterator[str]:
    """The flags themselves."""
    for key, value in given.items():
        name = f"{above}{key.replace('_', '-')}"
        yield from typed(value, f"{name}.") if value and isinstance(value, dict) else (name,)


def _usual(flag: str | Short, keys: dict[tuple[str, ...], Flag]) -> Flag:
    """The key's flag under its usual name, out of `keys`; a flag of its own if it is typed otherwise."""
    short = flag if isinstance(flag, Short) else Short(f"--{flag.rpartition('.')[2].replace('_', '-')}", flag)
    path = tuple(short.key.split("."))
    if short.value is None:
        own = keys.pop(path)
        names = tuple(dict.fromkeys((short.name, *own.names)))
        return own._replace(names=names, help=short.help or own.help, panel=None)
    if short.name in keys[path].names:
        del keys[path]
    return Flag((short.name,), path, list[str], "TEXT", short.help, short.value)


def _flags_of(model: type[BaseModel], above: tuple[str, ...] = (), panel: str = "Keys of the file") -> Iterator[Flag]:
    """Of each key that holds no other model."""
    for name, field in model.model_fields.items():
        kinds = [*alternatives(field.annotation)]
        if len(kinds) == 1 and _is_model(kinds[0]):
            said = field.description or (kinds[0].__doc__ or "").partition("\n")[0].rstrip(".")
            yield from _flags_of(kinds[0], (*above, name), panel if above else f"{name}: {said}")
        else:
            yield _flag((*above, name), field, kinds)._replace(panel=panel)


def _is_model(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, BaseModel)


def _flag(path: tuple[str, ...], field: FieldInfo, kinds: list[Any]) -> Flag:
    name = f"--{'.'.join(path).replace('_', '-')}"
    origins = {get_origin(kind) for kind in kinds}
    choices = [str(argument) for kind in kinds if get_origin(kind) is Literal for argument in get_args(kind)]
    help_text = _help_of(field, choices)
    if kinds == [bool]:
        return Flag((name,), path, bool, None, help_text, bool)
    if origins & {tuple, list}:
        return Flag((name,), path, list[str], "LIST", help_text, _list_of)
    if dict in origins or any(_is_model(kind) or is_dataclass(kind) for kind in kinds):
        return Flag((name,), path, list[str], "X=Y", help_text, lambda texts: _mapping_of(name, texts))
    if choices or str in kinds or Path in kinds:
        return Flag((name,), path, str, "PATH" if Path in kinds else "TEXT", help_text, str)
    return Flag((name,), path, str, "NUMBER", help_text, plain)


def _help_of(field: FieldInfo, choices: list[str]) -> str:
    """The description, the choices, and the default if it can be typed."""
    default = None if field.is_required() else field.get_default()
    if isinstance(default, tuple) and not any(isinstance(value, BaseModel) for value in default):
        default = ", ".join(map(str, default))
    shown = str(default).lower() if isinstance(default, bool) else default
    sentence = field.description or ""
    parts = [
        f"{sentence[:1].upper()}{sentence[1:]}." if sentence else "",
        f"One of {', '.join(choices)}." if choices else "",
    ]
    parts.append(f"[default: {shown}]" if isinstance(shown, (str, int, float)) and shown != "" else "")
    return " ".join(filter(None, parts))


def plain(text: str) -> Any:
    """A number, true, false, null, a list or a mapping (YAML); anything else is the text itself."""
    for kind in (int, float):
        try:
            number = kind(text)
        except ValueError:
            continue
        if abs(number) < 2**64:  # of what is not finite, or larger than any key takes, validation shows the text
            return number
        return text if kind is int or not math.isfinite(number) else number
    if text[:1] in ("[", "{"):
        try:
            return parse_yaml(text)
        except yaml.YAMLError as error:
            raise ConfigError(f"{text} is not YAML: {why(error)}") from None
    return WORDS.get(text, text)


def _list_of(texts: list[str]) -> list[Any]:
    if len(texts) == 1:
        return listed(texts[0])
    return [plain(text) for text in texts]


def listed(text: str) -> list[Any]:
    """A list of one flag: `1,2`, or as YAML, `[1, 2]`."""
    value = plain(text)
    if isinstance(value, str) and "," in value:
        return [plain(part.strip()) for part in value.split(",")]
    return value if isinstance(value, list) else [value]


def _mapping_of(flag: str, texts: list[str]) -> dict[str, Any]:
    nested: dict[str, Any] = {}
    for text in texts:
        whole = plain(text)
        name, _, value = text.partition("=")
        if not isinstance(whole, dict) and not value:
            raise ConfigError(f"{flag} {text}: give NAME=VALUE, e.g. {flag} spike=200, or a mapping as YAML")
        nested |= whole if isinstance(whole, dict) else {name: plain(value)}
    return nested


def _nested(path: tuple[str, ...], value: Any) -> Given:
    for name in reversed(path):
        value = {name: value}
    return dict(value)


def _whole(highlighter: Callable[[str], Text]) -> Callable[[str], Text]:
    def folded(text: str) -> Text:
        made = highlighter(text)
        made.overflow = "fold"
        return made

    return folded


for _name in ("highlighter", "negative_highlighter"):  # typer cuts flags that do not fit into a narrow terminal
    setattr(rich_utils, _name, _whole(getattr(rich_utils, _name)))
