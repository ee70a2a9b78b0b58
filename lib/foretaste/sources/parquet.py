"""Parquet: columns of any type, nested ones by dots."""

from collections.abc import Mapping, Sequence

from pyspark.sql import Column, SparkSession
from pyspark.sql import functions as F
from pyspark.sql.types import ArrayType, DataType, StructType

from foretaste.errors import SourceError
from foretaste.sources.parsed import Parsed, Wanted
from foretaste.sources.reading import missing


def read_parquet(spark: SparkSession, path: str, options: Mapping[str, str], wanted: Wanted) -> Parsed:
    table = spark.read.options(**options).parquet(path)
    nothing = F.lit(None).cast("string").alias("corrupt_line")
    everything = F.struct(*[F.col(_quoted(name)) for name in table.columns])
    rows = table.select(everything.alias("record"), nothing, F.col("_metadata.file_path").alias("source_file"))
    exploded = wanted.explode
    element: DataType | None = None
    if exploded is not None:
        place = _find(table.schema, exploded)
        kind = None if place is None else _kind(table.schema, place)
        if place is None or not isinstance(kind, ArrayType):
            raise SourceError(f"there is no array {exploded!r} to explode", where=path, fix="Name an array column in source.explode.")
        element = kind.elementType
        rows = rows.select("*", F.posexplode_outer(_nested("record", place)).alias("element_number", "element"))

    fields: dict[str, Column] = {}
    kinds: dict[str, DataType] = {}
    absent: dict[str, str] = {}
    for field, column in wanted.columns.items():
        inside = exploded is not None and element is not None and (column == exploded or column.startswith(f"{exploded}."))
        root, schema = ("element", element) if inside else ("record", table.schema)
        name = column[len(exploded or "") + 1 :] if inside else column
        found = _find(schema, name) if name else ()
        if found is None or schema is None:
            absent[field] = column
        else:
            fields[field], kinds[field] = _nested(root, found), _kind(schema, found)
    if absent:
        raise missing(absent, _names(table.schema), path, wanted.key)
    return Parsed(rows=rows, fields=fields, kinds=kinds, element=None if exploded is None else F.col("element_number"))


def _find(schema: DataType | None, column: str) -> tuple[str, ...] | None:
    """`a.b` is field b of struct a, unless there is a column `a.b`."""
    if not isinstance(schema, StructType):
        return None
    if column in schema.names:
        return (column,)
    first, dot, rest = column.partition(".")
    inner = _find(schema[first].dataType, rest) if dot and first in schema.names else None
    return None if inner is None else (first, *inner)


def _kind(schema: DataType, place: Sequence[str]) -> DataType:
    for name in place:
        assert isinstance(schema, StructType)
        schema = schema[name].dataType
    return schema


def _names(schema: DataType, above: str = "") -> list[str]:
    if isinstance(schema, ArrayType):
        return _names(schema.elementType, above)
    if not isinstance(schema, StructType):
        return []
    return [name for field in schema for name in (f"{above}{field.name}", *_names(field.dataType, f"{above}{field.name}."))]


def _nested(column: str, place: Sequence[str]) -> Column:
    return F.col(".".join([column, *[_quoted(name) for name in place]]))


def _quoted(name: str) -> str:
    return "`" + name.replace("`", "``") + "`"
