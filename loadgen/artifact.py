"""Parquet artefacts with a schema version and their provenance, and the one refusal of a foreign version."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from workloads.errors import KisError
from workloads.files import replacing

if TYPE_CHECKING:
    import pyarrow as pa

_KEY = b"kis"


class ArtifactError(KisError):
    """A file that cannot be read as the artefact it should be."""


def write_table(
    path: Path, table: pa.Table, kind: str, version: int, provenance: dict[str, Any], compact: bool = False
) -> None:
    """Write `table` as the artefact `kind` of schema `version`. Equal content gives equal bytes.

    Integer columns, and lists of integers, are delta-encoded: times of a log grow, so a request costs a few bytes.
    compact: for integers that are small differences already. Their bytes are split by place instead and compressed as
    far as zstd goes, which takes seconds a million rows.
    """
    import pyarrow as pa  # noqa: PLC0415 - who imports this module may only read JSON
    import pyarrow.parquet as pq  # noqa: PLC0415

    encoding = "BYTE_STREAM_SPLIT" if compact else "DELTA_BINARY_PACKED"
    header = json.dumps({"kind": kind, "version": version, "provenance": provenance}, sort_keys=True)
    table = table.replace_schema_metadata({_KEY: header.encode()})
    leaves = [
        (f"{f.name}.list.element", f.type.value_type) if pa.types.is_list(f.type) else (f.name, f.type)
        for f in table.schema
    ]
    integers = {name: encoding for name, kind in leaves if pa.types.is_integer(kind) and kind.bit_width >= 32}
    strings = [f.name for f in table.schema if pa.types.is_string(f.type) or pa.types.is_dictionary(f.type)]
    with replacing(path) as temporary:
        pq.write_table(
            table,
            temporary,
            compression="zstd",
            compression_level=19 if compact else None,
            use_dictionary=strings or False,
            column_encoding=integers or None,
            write_statistics=not compact,
        )


def read_table(path: Path, kind: str, version: int) -> tuple[pa.Table, dict[str, Any]]:
    """Read an artefact back with its provenance; ArtifactError says what to do if it is not one of ours."""
    import pyarrow as pa  # noqa: PLC0415 - as above
    import pyarrow.parquet as pq  # noqa: PLC0415

    if not path.exists():
        raise ArtifactError(f"{path} does not exist: expected a {kind} written by kis")
    try:
        table = pq.read_table(path)
        header = json.loads((table.schema.metadata or {})[_KEY])
    except (pa.ArrowInvalid, OSError) as error:
        reason = str(error).splitlines()[0]
        raise ArtifactError(f"{path} is not a readable parquet file ({reason}): run again to write it anew") from None
    except (KeyError, ValueError):
        raise ArtifactError(f"{path} is a parquet file without a kis header: give a {kind} written by kis") from None
    if header["kind"] != kind:
        raise ArtifactError(f"{path} holds a {header['kind']}, not a {kind}: give the other file")
    if header["version"] != version:
        raise ArtifactError(
            f"{path} has {kind} schema version {header['version']}, this kis reads {version}: make the run again"
        )
    return table, header["provenance"]


def read_json(path: Path, remedy: str) -> Any:
    """ArtifactError, with what to do, if the file is not there or is no JSON."""
    try:
        return json.loads(path.read_text())
    except OSError as error:
        raise ArtifactError(f"{path}: {error.strerror}: {remedy}") from None
    except json.JSONDecodeError as error:
        raise ArtifactError(f"{path}: not JSON ({error}): {remedy}") from None
