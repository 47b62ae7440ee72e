"""The page of commands, from the application itself: every command, argument, flag, default and help text."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from typing import Any

import typer
from rich.text import Text
from source import cell, code
from typer.core import TyperArgument, TyperGroup, TyperOption

from testbed.cli.main import COMMANDS, FIRST, HELP, application
from testbed.installed import extra_of

HEAD = f"""# Commands

{HELP}

Each command takes a configuration file (YAML); every key of it is a flag, too, and a flag goes over the file's key.
[Configuration](configuration.md) has the keys by command.
Results go to `results/TIME-WHAT` in the current folder, or to the folder of `--out`; the last line of a command is the
path of its page. With `--out` at a folder that has results: a command that measures one run (`replay`, `measure`)
refuses at once; a simulation (`simulate`, `plan`, `pack`) gives the same again in their place, and says so; all others
go on with what is missing, and say what is left. Results of another command or of other settings are never mixed with.
`kis COMMAND --help` shows the same as this page. Try first:

```bash
{chr(10).join(FIRST[1:-1])}
```
"""


def page() -> str:
    """Markdown, generated anew at each build."""
    kis = typer.main.get_command(application())
    assert isinstance(kis, TyperGroup)
    groups = dict.fromkeys(entry.group for entry in COMMANDS.values())
    parts = [HEAD]
    for group in groups:
        parts.append(f"## {group}\n")
        for name, entry in COMMANDS.items():
            if entry.group == group:
                needs = f"\nNeeds the extra `{extra_of(entry.needs)}` (`make env`).\n" if entry.needs else ""
                parts += [
                    f"### kis {name}\n\n{entry.summary}\n{needs}",
                    *_command(name, kis.commands[name], entry.summary),
                ]
    return "\n".join(parts)


def _command(name: str, command: Any, summary: str) -> Iterator[str]:
    arguments = [param for param in command.params if isinstance(param, TyperArgument)]
    flags = [param for param in command.params if isinstance(param, TyperOption)]
    told = inspect.cleandoc(command.help or "").removeprefix(summary).strip()
    usage = " ".join(
        ["kis", name, *(f"[{arg.name.upper()}]" if not arg.required else arg.name.upper() for arg in arguments)]
    )
    yield f"```text\n{usage} [FLAGS]\n```\n\n{prose(told)}\n"
    panels: dict[str, list[str]] = {}
    for argument in arguments:
        text = getattr(argument, "help", None) or ""
        panels.setdefault("", []).append(f"| {code(argument.name.upper())} | | {cell(_plain(text))} |")
    for flag in flags:
        names = ", ".join(map(code, [*flag.opts, *flag.secondary_opts]))
        kind = "" if flag.is_flag else flag.metavar or _kind(flag)
        shown = "" if flag.default in (None, False, ()) or callable(flag.default) else f" [default: {flag.default}]"
        text = _plain(flag.help or "")
        panel = getattr(flag, "rich_help_panel", None) or ""
        row = f"| {names} | {kind} | {cell(text + ('' if '[default' in text else shown))} |"
        panels.setdefault("" if panel == "Options" else panel, []).append(row)
    for panel, rows in panels.items():
        title = f"**{cell(panel)}**\n\n" if panel else ""
        yield f"{title}| flag | type | meaning |\n| --- | --- | --- |\n" + "\n".join(rows) + "\n"


def _kind(flag: TyperOption) -> str:
    name = getattr(flag.type_descriptor.annotation, "__name__", "text")
    return {"str": "TEXT", "int": "INTEGER", "float": "NUMBER", "Path": "PATH"}.get(name, name.upper())


def _plain(markup: str) -> str:
    return Text.from_markup(markup).plain


def prose(markup: str) -> str:
    """A docstring in rich's markup as Markdown: bold is code; from a line that begins with `$ ` on it is an example."""
    text, *example = re.split(r"^(?=(?:\[bold\])?\$ )", markup.replace("\b", ""), maxsplit=1, flags=re.MULTILINE)
    out = []
    for paragraph in re.split(r"\n\s*\n", text.strip()):
        joined = re.sub(r"\n(?!\S[^\n:]*: \[bold\])", " ", paragraph)
        marked = re.sub(r"\[bold\](.*?)\[/bold\]", r"`\1`", joined)
        out.append("\n\n".join(line.replace("\\[", "[") for line in marked.splitlines()))
    out += [f"```text\n{_plain(part).rstrip()}\n```" for part in example]
    return "\n\n".join(out)
