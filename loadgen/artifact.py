"""Parquet artefacts with a schema version and their provenance, and the one refusal of a foreign version."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from workloads.errors import KisError
from workloads.files import parse_json, read_text, replacing

if TYPE_CHECKING:
    import pyarrow as pa

T = TypeVar("T")
_KEY = b"kis"
MOST_ROWS = 100_000_000  # an hour at 27,000 requests/s


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


def read_table(
    path: Path, kind: str, version: int, columns: Iterable[pa.Field] = (), optional: Iterable[pa.Field] = ()
) -> tuple[pa.Table, dict[str, Any]]:
    """Read an artefact back with its provenance; ArtifactError says what to do if it is not one of ours.

    columns: that it must have, with these types, finite numbers, and no nulls where there may be none. optional: that
    are so if they are there. Others may stand beside them.
    """
    import pyarrow as pa  # noqa: PLC0415 - as above
    import pyarrow.parquet as pq  # noqa: PLC0415

    if not path.exists():
        raise ArtifactError(f"{path} does not exist: expected a {kind} written by kis")
    try:
        with pq.ParquetFile(path) as file:
            if file.metadata.num_rows > MOST_ROWS:
                raise ArtifactError(f"{path} has {file.metadata.num_rows:,} rows, more than {MOST_ROWS:,}")
            table = file.read()
        table.validate(full=True)
        header = parse_json((table.schema.metadata or {})[_KEY])
        found, of_version, provenance = header["kind"], header["version"], dict(header["provenance"])
    except (pa.ArrowException, OSError) as error:
        reason = str(error).partition("\n")[0]
        raise ArtifactError(f"{path} is not a readable parquet file ({reason}): run again to write it anew") from None
    except (KeyError, ValueError, TypeError):
        raise ArtifactError(f"{path} is a parquet file without a kis header: give a {kind} written by kis") from None
    if found != kind:
        raise ArtifactError(f"{path} holds a {found}, not a {kind}: give the other file")
    if of_version != version:
        raise ArtifactError(
            f"{path} has {kind} schema version {of_version}, this kis reads {version}: make the run again"
        )
    asked = [*columns, *(field for field in optional if field.name in table.column_names)]
    for wrong in filter(None, (_wrong_column(table, field) for field in asked)):
        raise ArtifactError(f"{path}: {wrong}: make the run again, or restore the file")
    return table, provenance


def _wrong_column(table: pa.Table, field: pa.Field) -> str | None:
    """What is wrong with that column; None: nothing."""
    import pyarrow as pa  # noqa: PLC0415 - as above
    import pyarrow.compute as pc  # noqa: PLC0415

    if table.column_names.count(field.name) != 1:
        return f"it has {table.column_names.count(field.name)} columns '{field.name}'"
    column = table[field.name]
    if column.type != field.type:
        return f"column '{field.name}' has {column.type}, not {field.type}"
    if column.null_count and not field.nullable:
        return f"column '{field.name}' has {column.null_count} empty places"
    if pa.types.is_floating(field.type) and not pc.all(pc.is_finite(column), min_count=0).as_py():
        return f"column '{field.name}' has a number that is not finite"
    return None


def read_json(path: Path, remedy: str) -> Any:
    """ArtifactError, with what to do, if the file is not there or is no JSON."""
    try:
        return parse_json(read_text(path))
    except OSError as error:
        raise ArtifactError(f"{path}: {error.strerror}: {remedy}") from None
    except ValueError as error:
        raise ArtifactError(f"{path}: not JSON ({error}): {remedy}") from None


def read_json_lines(path: Path, remedy: str) -> list[dict[str, Any]]:
    """One JSON object a line; none: there is no file. ArtifactError names the line that is another thing.

    A last line that was not finished (its process was killed) is left out.
    """
    try:
        lines = read_text(path).split("\n") if path.exists() else []
    except ValueError as error:
        raise ArtifactError(f"{path}: {error}: {remedy}") from None
    whole = [(number, line) for number, line in enumerate(lines, 1) if line.endswith("}")]
    return [_object(line, f"{path}, line {number}", remedy) for number, line in whole]


def read_csv_rows(path: Path, row: Callable[[dict[str, str]], T], remedy: str) -> list[T]:
    """What `row` makes of each row below the headings; ArtifactError where it raises: a column or number is wrong."""
    made: list[T] = []
    try:
        for fields in csv.DictReader(io.StringIO(read_text(path), newline="")):
            made.append(row(fields))
    except OSError as error:
        raise ArtifactError(f"{path}: {error.strerror}: {remedy}") from None
    except (csv.Error, KeyError, ValueError, TypeError) as error:
        what = f"{type(error).__name__}: {error}"
        raise ArtifactError(f"{path}, row {len(made) + 1}: not as kis writes it ({what}): {remedy}") from None
    return made


def _object(line: str, where: str, remedy: str) -> dict[str, Any]:
    try:
        value = parse_json(line)
    except ValueError as error:
        raise ArtifactError(f"{where}: not JSON ({error}): {remedy}") from None
    if not isinstance(value, dict):
        raise ArtifactError(f"{where}: no object: {remedy}")
    return value
