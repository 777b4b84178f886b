"""Tables as bytes: strict rows, parquet with a digest of schema and values in the footer, and back.

Page checksums alone let some single bit flips through unseen, and cover no metadata; the digest covers what is read.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import math
import numbers
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq

from scaling.errors import StoreError
from scaling.store.files import Damaged, check_run_id
from scaling.store.schema import CURVE_SCHEMA, EVAL_SCHEMA, FORMAT_VERSION, ROW_SCHEMA

if TYPE_CHECKING:
    import pandas as pd

DIGEST_KEY = "scaling_values_sha256"
VERSION_KEY = "scaling_format_version"

TERMINAL = ("finished", "diverged")
STATUSES = (*TERMINAL, "failed")

FILE_DIGEST = pa.field("file_sha256", pa.string())
"""Extra column of curves and evaluations folded into parts: the digest of the file a run's row names."""

_NEVER_NULL = ("run_id", "lineage", "sweep", "status")
_JSON = ("spec", "execution", "provenance")
_MAY_LACK = {"curve": ("run_id", "loss", "grad_norm"), "evaluation": ("run_id", "x", "se", "n", "settings")}


def values_sha256(table: pa.Table) -> str:
    """A digest of column names, types and values, null and every bit of a float included."""
    schema = table.schema
    head = [table.num_rows, *([f.name, str(f.type)] for f in schema)]
    sha = hashlib.sha256(json.dumps(head).encode())
    for column in table.columns:
        array = column.combine_chunks() if column.num_chunks != 1 else column.chunk(0)
        if pa.types.is_integer(array.type) or pa.types.is_floating(array.type):
            if array.null_count:
                sha.update(_raw(array.is_valid().cast(pa.uint8())))
                array = array.drop_null()  # Not fill_null: its scalar would cost the import of pandas.
            else:
                sha.update(b"\1")
            data = _raw(array)
        else:
            data = json.dumps(array.to_pylist()).encode()
        sha.update(len(data).to_bytes(8, "little"))
        sha.update(data)
    return sha.hexdigest()


def _raw(array: pa.Array) -> bytes:
    """The values' bytes; through numpy they would cost the import of pandas."""
    width = array.type.bit_width // 8
    buffer = array.buffers()[1]
    return b"" if buffer is None else buffer.slice(array.offset * width, len(array) * width).to_pybytes()


def encode(table: pa.Table) -> bytes:
    """Parquet bytes of a table, zstd-compressed, with the digest of its values in the footer; read back once.

    Raises StoreError where what is read back is not what was written.
    """
    plain = table.cast(bare(table.schema))
    meta = {DIGEST_KEY: values_sha256(plain), VERSION_KEY: str(FORMAT_VERSION)}
    small = table.num_rows <= 1
    sink = pa.BufferOutputStream()
    # Dictionaries, statistics and Arrow's own copy of the schema would triple the size of a row.
    with pq.ParquetWriter(
        sink,
        plain.schema,
        compression="zstd",
        use_dictionary=not small,
        write_statistics=not small,
        store_schema=False,
        write_page_checksum=True,
    ) as writer:
        writer.write_table(plain)
        writer.add_key_value_metadata(meta)
    data = sink.getvalue().to_pybytes()
    try:
        decode(data, plain.schema)
    except Damaged as error:
        raise StoreError(f"a table does not survive being written as parquet: {error}; please report this") from error
    return data


def bare(schema: Iterable[pa.Field]) -> pa.Schema:
    """Names and types alone, without the metadata that documents them."""
    return pa.schema([pa.field(f.name, f.type) for f in schema])


def decode(data: bytes, schema: pa.Schema, extra: tuple[pa.Field, ...] = ()) -> pa.Table:
    """The table of some parquet bytes, checked against the digest in its footer and brought to `schema` and `extra`.

    Columns that an earlier version did not write come back null. Raises Damaged where the content is not what was
    written, StoreError where a newer version wrote it.
    """
    try:
        file = pq.ParquetFile(pa.BufferReader(data), page_checksum_verification=True)
        table = file.read(use_threads=False)
        meta = file.metadata.metadata or {}
        actual = values_sha256(table)
    except Exception as error:
        # Damaged bytes raise nearly anything: ArrowInvalid, OSError, UnicodeDecodeError, MemoryError.
        raise Damaged(f"not readable as parquet: {str(error).splitlines()[0] if str(error) else error!r}") from error
    claimed = meta.get(DIGEST_KEY.encode())
    if claimed is None:
        raise Damaged("no digest in its footer")
    if claimed.decode("ascii", "replace") != actual:
        raise Damaged("schema and values differ from the sha256 in its footer")
    fields = [*schema, *extra]
    known = {f.name: f.type for f in fields}
    if list(known.items()) == [(f.name, f.type) for f in table.schema]:
        return table.replace_schema_metadata(None)
    odd = [f.name for f in table.schema if known.get(f.name) != f.type]
    if odd:
        raise StoreError(f"column {odd[0]} is unknown or of another type: written by a newer version; upgrade to read")
    given = set(table.schema.names)
    columns = [table.column(n) if n in given else pa.nulls(table.num_rows, t) for n, t in known.items()]
    return pa.table(columns, schema=pa.schema([pa.field(f.name, f.type) for f in fields]))


def _value(where: str, field: pa.Field, value: Any) -> Any:
    """A plain Python value of the field's type, or StoreError; never a guess."""
    name = field.name
    if value is None and name not in _NEVER_NULL and field.type != pa.string():
        return None
    if field.type == pa.string():
        if isinstance(value, str):
            return str(value)
        wanted = 'text ("" where there is none)'
    elif field.type == pa.int64():
        if isinstance(value, numbers.Integral) and not isinstance(value, bool) and -(2**63) <= int(value) < 2**63:
            return int(value)
        wanted = "a whole number"
    else:
        if isinstance(value, numbers.Real) and not isinstance(value, bool):
            return float(value)
        wanted = "a number"
    raise StoreError(f"{where}: column {name}: {value!r} is not {wanted}")


def _check_columns(where: str, given: Iterable[str], fields: Iterable[str], may_lack: Iterable[str] = ()) -> None:
    given, fields = list(given), list(fields)
    unknown = sorted(set(given) - set(fields))
    missing = sorted(set(fields) - set(given) - set(may_lack))
    if unknown:
        raise StoreError(f"{where}: unknown column {', '.join(map(str, unknown))}; `scaling schema` lists the columns")
    if missing:
        raise StoreError(f"{where}: missing column {', '.join(missing)}; give every column, null where it has no value")


def row_table(row: Mapping[str, Any], statuses: tuple[str, ...]) -> pa.Table:
    """One row of ROW_SCHEMA. Raises StoreError at a missing, unknown or mistyped column or an untrue status."""
    where = f"row {check_run_id(row.get('run_id'))}"
    _check_columns(where, row, ROW_SCHEMA.names)
    values = {f.name: _value(where, f, row[f.name]) for f in ROW_SCHEMA}
    if values["status"] not in statuses:
        raise StoreError(f"{where}: column status: {values['status']!r} is not {' or '.join(statuses)}")
    if values["status"] == "finished" and (values["loss"] is None or not math.isfinite(values["loss"])):
        raise StoreError(f"{where}: column loss: {values['loss']} in a finished row; such a run is `diverged`")
    for name in _JSON:
        try:
            if not isinstance(json.loads(values[name]), dict):
                raise ValueError("not an object")
        except ValueError as error:
            raise StoreError(f"{where}: column {name}: not a JSON object: {error}") from error
    try:
        return pa.Table.from_pylist([values], schema=bare(ROW_SCHEMA))
    except (ValueError, pa.ArrowException) as error:
        raise StoreError(f"{where}: {error}") from error


def _long_table(
    run_id: str, what: str, schema: pa.Schema, given: pd.DataFrame | Iterable[Mapping[str, Any]]
) -> pa.Table:
    where, may_lack = f"{what} of {run_id}", _MAY_LACK[what]
    records: list[dict[str, Any]]
    if hasattr(given, "columns"):
        frame: Any = given
        _check_columns(where, frame.columns, schema.names, may_lack)
        # A frame writes null as NaN or NA.
        records = frame.astype(object).where(frame.notna(), None).to_dict("records")
    else:
        records = [dict(r) for r in given]
    for number, record in enumerate(records):
        at = f"{where}, point {number}"
        _check_columns(at, record, schema.names, may_lack)
        if record.setdefault("run_id", run_id) != run_id:
            raise StoreError(f"{at}: column run_id: {record['run_id']!r} is another run")
        if "settings" in schema.names and record.get("settings") is None:
            record["settings"] = ""
        records[number] = {f.name: _value(at, f, record.get(f.name)) for f in schema}
    return pa.Table.from_pylist(records, schema=bare(schema))


def curve_table(run_id: str, curve: pd.DataFrame | Iterable[Mapping[str, Any]]) -> pa.Table:
    """A training curve in CURVE_SCHEMA; steps must rise. Raises StoreError."""
    table = _long_table(run_id, "curve", CURVE_SCHEMA, curve)
    steps = table.column("step").to_pylist()
    for number, (before, after) in enumerate(itertools.pairwise(steps), start=1):
        if before is None or after is None or after <= before:
            raise StoreError(f"curve of {run_id}, point {number}: column step: {after} does not follow {before}")
    return table


def eval_table(run_id: str, evals: pd.DataFrame | Iterable[Mapping[str, Any]]) -> pa.Table:
    """Measurements of one run in EVAL_SCHEMA. Raises StoreError."""
    return _long_table(run_id, "evaluation", EVAL_SCHEMA, evals)


def frame(table: pa.Table, schema: pa.Schema) -> pd.DataFrame:
    """A pandas table with the columns of `schema`: int64 (Int64 where a value is null: never a float), float64, str."""
    import pandas as pd

    out = {}
    for name in schema.names:
        column = table.column(name)
        if pa.types.is_integer(column.type) and column.null_count:
            out[name] = column.to_pandas(types_mapper={pa.int64(): pd.Int64Dtype()}.get)
        elif pa.types.is_string(column.type):
            out[name] = pd.Series(column.to_pylist(), dtype="str")
        else:
            out[name] = column.to_pandas()
    return pd.DataFrame(out)
