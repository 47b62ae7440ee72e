"""Images without a registry or a builder: one layer in a Docker archive, which `ctr images import` reads."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from collections.abc import Iterable, Sequence
from pathlib import Path

REGISTRY = "kis.local"  # nobody's: these images can only be imported
PAUSE = f"{REGISTRY}/pause:1"
HOSTROOT = f"{REGISTRY}/hostroot:1"

_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}


def pause_image(archive: Path, binary: Path, machine: str) -> None:
    """The process that holds a pod's namespaces, and nothing else. machine: platform.machine()."""
    _write(archive, PAUSE, machine, _file("pause", binary.read_bytes(), 0o755), entrypoint=["/pause"])


def hostroot_image(archive: Path, machine: str) -> None:
    """An empty root with a merged /usr: a pod mounts the machine's own /usr and whatever it runs (hostroot.py).

    So anything that runs on this machine runs in a pod, and nothing has to be built.
    """
    folders = [_folder(name) for name in ("dev", "etc", "opt", "proc", "run", "sys", "usr", "var")]
    links = [_link(name, f"usr/{name}") for name in ("bin", "sbin", "lib", "lib64")]
    files = [
        _file("etc/passwd", b"root:x:0:0:root:/:/usr/sbin/nologin\nkis:x:1000:1000:kis:/tmp:/usr/sbin/nologin\n"),
        _file("etc/group", b"root:x:0:\nkis:x:1000:\n"),
        _file("etc/nsswitch.conf", b"passwd: files\ngroup: files\nhosts: files dns\n"),
    ]
    _write(archive, HOSTROOT, machine, *folders, _folder("tmp", 0o1777), *links, *files)


_Entry = tuple[tarfile.TarInfo, bytes]


def _folder(name: str, mode: int = 0o755) -> _Entry:
    entry = tarfile.TarInfo(name)
    entry.type, entry.mode = tarfile.DIRTYPE, mode
    return entry, b""


def _link(name: str, to: str) -> _Entry:
    entry = tarfile.TarInfo(name)
    entry.type, entry.linkname = tarfile.SYMTYPE, to
    return entry, b""


def _file(name: str, content: bytes, mode: int = 0o644) -> _Entry:
    entry = tarfile.TarInfo(name)
    entry.size, entry.mode = len(content), mode
    return entry, content


def _write(archive: Path, name: str, machine: str, *entries: _Entry, entrypoint: Sequence[str] = ()) -> None:
    layer = _tar(entries)
    digest = hashlib.sha256(layer).hexdigest()
    config = _json(
        {
            "architecture": _ARCHITECTURES.get(machine, machine),
            "os": "linux",
            "config": {"Env": ["PATH=/usr/local/bin:/usr/bin:/bin"], "Entrypoint": list(entrypoint)},
            "rootfs": {"type": "layers", "diff_ids": [f"sha256:{digest}"]},
        }
    )
    config_name, layer_name = f"{hashlib.sha256(config).hexdigest()}.json", f"{digest}/layer.tar"
    manifest = _json([{"Config": config_name, "RepoTags": [name], "Layers": [layer_name]}])
    parts = {config_name: config, layer_name: layer, "manifest.json": manifest}
    archive.write_bytes(_tar(_file(name, content) for name, content in parts.items()))


def _tar(entries: Iterable[_Entry]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for entry, content in entries:
            archive.addfile(entry, io.BytesIO(content))
    return buffer.getvalue()


def _json(value: object) -> bytes:
    return json.dumps(value).encode()
