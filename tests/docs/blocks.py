"""The fenced blocks of a page, and what is done with each: it is run or validated, or a reason says why not.

A block is run unless a comment before it, or its command, says why not:

    <!-- not run: needs the cluster -->        its commands are parsed: flags and files exist
                                               (tests/cluster/test_cluster_tutorial.py runs them)
    <!-- background: http://host:port/path --> runs until the page ends; the next block waits for that address
    <!-- config: kis devices -->               of YAML: the command that reads it; `in FOLDER`: paths are from there
    ```yaml title="tune.yaml"                  is written under that name, for the commands that follow

Commands are in blocks of `bash` or of no language. In `console` they have `$ ` before them, and what they print after.
"""

from __future__ import annotations

import re
import shlex
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
FENCED = re.compile(
    r"(?:^ *<!-- (?P<verb>not run|background|config): (?P<text>[^>]*?) -->\n)?"
    r"^(?P<indent> *)```(?P<language>\w*)(?: title=\"(?P<title>[^\"]+)\")?\n(?P<code>.*?)^(?P=indent)```$",
    flags=re.DOTALL | re.MULTILINE,
)
COMMAND = re.compile(
    r"(?:make|kis|python|kubectl|helm|docker|buildah|podman|bash|pip|locust|export|git|cd|mkdir|curl|\.venv/bin/\w+) "
)

# Why a line is not run, by how it begins.
ELSEWHERE = {
    r"make ": "a target of make: CI runs them",
    r"kubectl |helm |kis (controller|adapter|activator|experiment) ": "needs a cluster",
    r".*(testbed\.localcluster|hpa_differential)": "needs a cluster",
    r"docker |buildah |podman ": "makes an image",
    r"bash build/bundle": "needs a bundle and a GPU",
    r"kis devices |python -m workloads.network_times": "needs a GPU",
    r"pip |\.venv/bin/pip |git ": "changes the reader's environment",
    r".*(?<![\w/.=])[A-Z]{1,8}(?![\w/])": "names something of the reader's",
}
UNATTENDED = {  # of blocks that show nothing of what comes
    r"locust |kis (replay|serve|watch) |.*(--server|--host) ": "needs a server of the reader's",
    r"kis (demo|calibrate|measure|train|tune|evaluate|adapt|report|compare|archive|restore) ?": "takes minutes",
}

Kind = Literal["shell", "python", "yaml", "file", "text"]


@dataclass(frozen=True)
class Line:
    """One command, what a console shows after it, and why it is not run."""

    command: str
    shown: tuple[str, ...] = ()
    reason: str | None = None


@dataclass(frozen=True)
class Block:
    """place: page and line, for messages. background: the address that answers once it is up; config: see above."""

    place: str
    kind: Kind
    code: str
    title: str | None = None
    reason: str | None = None
    background: str | None = None
    config: str | None = None
    language: str = ""

    @property
    def lines(self) -> list[Line]:
        """Of a shell's block."""
        reasons = ELSEWHERE if self.language == "console" else ELSEWHERE | UNATTENDED
        return [Line(command, shown, self.reason or _reason(command, reasons)) for command, shown in self._commands()]

    def _commands(self) -> Iterator[tuple[str, tuple[str, ...]]]:
        if self.language == "console":
            for part in re.split(r"^\$ ", self.code, flags=re.MULTILINE)[1:]:
                command, *shown = part.splitlines()
                yield command, tuple(shown)
            return
        for line in self.code.replace("\\\n", " ").splitlines():
            if line.strip() and not line.lstrip().startswith("#"):
                yield without_comment(line), ()


def without_comment(line: str) -> str:
    """A command line without the comment at its end."""
    return re.sub(r"\s+#.*$", "", line).strip()


def words(command: str) -> list[str]:
    """Of one command, without what it is piped or chained to."""
    return shlex.split(re.split(r" [|>&]|;", command)[0])


def _reason(command: str, reasons: dict[str, str]) -> str | None:
    return next((reason for start, reason in reasons.items() if re.match(start, command)), None)


def blocks_of(page: Path) -> list[Block]:
    """In their order."""
    text = page.read_text()
    name = page.relative_to(ROOT)
    return [
        _block(match, f"{name}:{text.count(chr(10), 0, match.start('indent')) + 1}") for match in FENCED.finditer(text)
    ]


def _block(match: re.Match[str], place: str) -> Block:
    code = textwrap.dedent(match["code"])
    language = match["language"] or ("console" if code.startswith("$ ") else "")
    said = {match["verb"]: match["text"]} if match["verb"] else {}
    return Block(
        place,
        _kind(language, match["title"], code),
        code,
        match["title"],
        said.get("not run"),
        said.get("background"),
        said.get("config"),
        language,
    )


def _kind(language: str, title: str | None, code: str) -> Kind:
    if title is not None:
        return "file"
    if language in ("python", "yaml"):
        return "python" if language == "python" else "yaml"
    if language in ("bash", "console", "sh"):
        return "shell"
    assert language in ("", "text", "json"), f"a block of {language}: say here what is done with it"
    commands = not language and all(
        COMMAND.match(line) for line in code.splitlines() if line.strip() and not line.startswith((" ", "#"))
    )
    return "shell" if commands else "text"
