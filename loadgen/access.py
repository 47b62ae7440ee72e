"""How a server of the user's is reached beside its address: TLS, and headers whose values are written down nowhere.

Configurations and run folders hold names of files and of environment variables. A header's value is read from them by
the process that sends it.
"""

from __future__ import annotations

import os
import re
import ssl
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from string import Template
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, field_validator

from workloads.errors import KisError

EXAMPLE = "--header 'Authorization: Bearer ${TOKEN}'"
TYPED = "KIS_HEADER_"  # variables of this process and its own, which hold what was typed as it is
INSECURE = "the server's certificate was not checked (--insecure): anybody could have answered"
_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_VALUE = re.compile(r"[\t\x20-\x7e\x80-\xff]*")
_LONG = 8  # characters of a word that may be a secret; Bearer has fewer
_OURS = ("content-length", "transfer-encoding", "inference-header-content-length")


class AccessError(KisError):
    """A certificate or a header that cannot be had."""


class Access(BaseModel):
    """How a server is reached beside its address."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    ca: Path | None = Field(None, description="certificates (PEM) that https is checked with; none: the system's")
    cert: Path | None = Field(None, description="own certificate (PEM), for a server that asks for one")
    key: Path | None = Field(None, description="key of that certificate; none: in the same file")
    insecure: bool = Field(False, description="do not check the server's certificate")
    headers: dict[str, str] = Field(
        {}, description="headers of every request, by name; a value has ${VARIABLE}, of the environment, for its secret"
    )
    header_files: tuple[Path, ...] = Field((), description="files with more headers, a line each, Name: value")

    @field_validator("headers")
    @classmethod
    def _nothing_is_written_out(cls, headers: dict[str, str]) -> dict[str, str]:
        for name, value in headers.items():
            if not _refers(value):
                raise ValueError(
                    f"{name} is written out: let its value be ${{VARIABLE}} of the environment, or put it into a file "
                    "(header_files)"
                )
        return headers

    def variables(self) -> dict[str, str]:
        """Of the environment, that the headers have and that are there: what another process needs of this one."""
        names = {name for value in self.headers.values() for name in Template(value).get_identifiers()}
        return {name: os.environ[name] for name in sorted(names) if name in os.environ}

    def header_values(self) -> dict[str, str]:
        """The headers of a request, their names in small letters; AccessError if a variable or a file is not there."""
        lines = [line for file in self.header_files for line in _lines_of(file)]
        filled = [(name, self._filled(name, value)) for name, value in self.headers.items()]
        return {name.lower(): _checked(name, value) for name, value in (*lines, *filled)}

    def secrets(self) -> tuple[str, ...]:
        """What no log may have, longest first: of the headers' values the long words, and each as a whole."""
        values = self.header_values().values()
        words = {word for value in values for word in (value, *value.split()) if len(word) >= _LONG}
        return tuple(sorted(words, key=len, reverse=True))

    @staticmethod
    def _filled(name: str, value: str) -> str:
        try:
            return Template(value).substitute(os.environ)
        except KeyError as missing:
            variable = missing.args[0]
            how = "give --header again" if variable.startswith(TYPED) else "export it"
            raise AccessError(f"header {name}: the environment variable {variable} is not set: {how}") from None

    def context(self, create: Callable[..., ssl.SSLContext] = ssl.create_default_context) -> ssl.SSLContext:
        """TLS of a client. create: gevent's function of that name, for its sockets. AccessError of a wrong file."""
        try:
            context = create(cafile=self.ca)
        except OSError as error:
            why = _reason(error)
            raise AccessError(f"--ca {self.ca} ({why}): give a file with certificates (PEM)") from None
        if self.insecure:
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        if self.cert is not None:
            try:
                context.load_cert_chain(self.cert, self.key, password=lambda: "")  # or OpenSSL would ask the terminal
            except (OSError, ValueError) as error:
                files = f"--cert {self.cert}" + (f" and --key {self.key}" if self.key is not None else "")
                why = _reason(error)
                raise AccessError(f"{files} ({why}): give a certificate and its key (PEM, without password)") from None
        return context

    def of_grpc(self) -> dict[str, Any]:
        """The same for tritonclient.grpc, whose own authorities are not the system's. AccessError of a wrong file."""
        self.context()  # gRPC does not say which file is wrong
        files = {
            "root_certificates": self.ca or ssl.get_default_verify_paths().cafile,
            "certificate_chain": self.cert,
            "private_key": self.key or self.cert,
        }
        return {"ssl": True, **{name: str(file) for name, file in files.items() if file is not None}}


PLAIN = Access()


def hidden(text: str, secrets: Iterable[str]) -> str:
    """What a server says, without what it repeats of the client's headers."""
    for secret in secrets:
        text = text.replace(secret, "***")
    return text


def given_headers(texts: Iterable[str]) -> dict[str, str]:
    """Of `Name: value` as it was typed. A value without ${VARIABLE} goes into a variable of this process: whoever
    writes the headers down writes its name."""
    headers = {}
    for text in texts:
        name, value = _parted(text, "--header")
        if not _refers(value):
            variable = TYPED + re.sub(r"\W", "_", name.upper())
            os.environ[variable], value = value, f"${{{variable}}}"
        headers[name] = value
    return headers


def _refers(value: str) -> bool:
    return Template(value).is_valid() and bool(Template(value).get_identifiers())


def _lines_of(file: Path) -> Iterator[tuple[str, str]]:
    try:
        text = file.read_text("latin-1")
    except OSError as error:
        raise AccessError(f"--header-file {file}: {error.strerror}: give a file with lines Name: value") from None
    for number, line in enumerate(text.splitlines(), start=1):
        if line.strip() and not line.startswith("#"):
            yield _parted(line, f"--header-file {file}, line {number}")


def _parted(text: str, where: str) -> tuple[str, str]:
    """Name and value; no message has the text, which may be the secret alone."""
    name, colon, value = text.partition(":")
    if not colon or not _NAME.fullmatch(name.strip()):
        raise AccessError(f"{where} is no header: give 'Name: value', e.g. {EXAMPLE}")
    return name.strip(), value.strip()


def _checked(name: str, value: str) -> str:
    if not _NAME.fullmatch(name) or name.lower() in _OURS:
        raise AccessError(f"header {name} cannot be given: the client has its own, or it is no header's name")
    if not _VALUE.fullmatch(value):
        raise AccessError(f"header {name}: its value has a line break or another character that no header may have")
    return value


def _reason(error: Exception) -> str:
    return getattr(error, "reason", None) or getattr(error, "strerror", None) or str(error)
