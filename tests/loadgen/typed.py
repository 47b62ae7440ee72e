"""Locust as a user types it, in a process of its own, and its web page asked as a browser would."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path
from typing import Any

LOADGEN = Path(__file__).parents[2] / "loadgen"
LONG_S = 90  # what is waited for has come long before


def locust(name: str, folder: Path, *arguments: str, **more: str) -> subprocess.Popen[str]:
    files = ",".join(str(LOADGEN / file) for file in f"{name}.py".split(","))
    command = [sys.executable, "-m", "locust", "-f", files, *arguments]
    pipe = subprocess.PIPE
    return subprocess.Popen(
        command, cwd=folder, env={**os.environ, "LOCUST_NO_PAGE": "true", **more}, stdin=subprocess.DEVNULL,
        stdout=pipe, stderr=subprocess.STDOUT, text=True, start_new_session=True,
    )  # fmt: skip


def free_port() -> str:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return str(probe.getsockname()[1])


def workers_of_its_own() -> list[str]:
    port = free_port()
    return ["--processes", "2", "--master-bind-host", "127.0.0.1", "--master-bind-port", port, "--master-port", port]


def until_stopped(port: str) -> dict[str, Any]:
    """What the page knows once the first run of its session is over."""
    while True:
        stats = ask(port, "stats/requests")
        if stats["state"] == "stopped":
            return stats
        time.sleep(0.05)


def ask(port: str, path: str, form: dict[str, Any] | None = None) -> dict[str, Any]:
    data = None if form is None else urllib.parse.urlencode(form).encode()
    deadline = time.monotonic() + LONG_S
    while True:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/{path}", data) as answer:
                return json.load(answer)
        except urllib.error.URLError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.1)
