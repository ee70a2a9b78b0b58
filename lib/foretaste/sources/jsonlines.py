"""JSON lines: one object a line. The line is what is kept of a record that is no event."""

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F

from foretaste.errors import SourceError
from foretaste.sources.parsed import Parsed, Wanted
from foretaste.sources.reading import missing

_NUM_HEAD_LINES = 100


def read_json(spark: SparkSession, path: str, options: Mapping[str, str], wanted: Wanted) -> Parsed:
    if options.get("multiLine", "false").lower() == "true":
        raise SourceError(
            "a document over several lines is not read", where="source.options.multiLine", fix="Write one JSON object a line."
        )
    text = spark.read.options(**options).text(path)
    lines = text.select(F.col("value").alias("record"), F.col("_metadata.file_path").alias("source_file")).where(F.trim("value") != "")
    places = _places(lines, wanted, path)
    exploded = None if wanted.explode is None else _split(wanted.explode, ())

    # Spark's parser stops after the first object of a line and would lose a second one; inside an array it has to reach the end.
    schema = f"row ARRAY<{_schema(places.values(), exploded)}>, corrupt STRING"
    in_array = F.concat(F.lit('{"row":['), "record", F.lit("]}"))
    parsed = lines.withColumn(
        "parsed", F.from_json(in_array, schema, {**options, "mode": "PERMISSIVE", "columnNameOfCorruptRecord": "corrupt"})
    )
    whole = F.col("parsed.corrupt").isNull() & (F.size("parsed.row") == 1) & F.try_element_at("parsed.row", F.lit(1)).isNotNull()
    rows = parsed.select(
        "record",
        "source_file",
        F.when(~F.coalesce(whole, F.lit(False)), F.col("record")).alias("corrupt_line"),
        F.when(whole, F.try_element_at("parsed.row", F.lit(1))).alias("row"),
    )
    if exploded is None:
        return Parsed(rows=rows, fields={field: _nested("row", place) for field, place in places.items()}, kinds={})
    elements = rows.select("*", F.posexplode_outer(_nested("row", exploded)).alias("element_number", "element"))
    fields = {
        field: _nested("element", place[len(exploded) :]) if place[: len(exploded)] == exploded else _nested("row", place)
        for field, place in places.items()
    }
    return Parsed(rows=elements, fields=fields, kinds={}, element=F.col("element_number"))


def _places(lines: DataFrame, wanted: Wanted, path: str) -> dict[str, tuple[str, ...]]:
    """Field of ours → its path of keys. SourceError if no record at all has one of them."""
    head = [row[0] for row in lines.select("record").limit(_NUM_HEAD_LINES).collect()]
    if not head:
        raise SourceError("the file is empty", where=path, fix="Point the path at files with rows.")
    found = dict.fromkeys(key for line in head for key in _keys(_object(line)))
    top_level = {key[0] for key in found}
    places = {field: _split(column, top_level) for field, column in wanted.columns.items()}
    unseen = {field: place for field, place in places.items() if place not in found}
    if unseen:  # not among the first lines: look at them all, once
        values = [
            F.get_json_object("record", "$" + "".join(f"['{key}']" for key in _in_arrays(place, wanted))) for place in unseen.values()
        ]
        seen = lines.agg(*[F.max(value.isNotNull()).alias(field) for field, value in zip(unseen, values, strict=True)]).head()
        absent = {field: wanted.columns[field] for field in unseen if not (seen and seen[field])}
        if absent:
            raise missing(absent, [".".join(key) for key in found], path, wanted.key)
    return places


def _in_arrays(place: tuple[str, ...], wanted: Wanted) -> Iterable[str]:
    exploded = () if wanted.explode is None else _split(wanted.explode, ())
    for number, key in enumerate(place, start=1):
        yield key
        if place[:number] == exploded:
            return  # whether its elements have the key is not worth another look


def _split(column: str, top_level: Iterable[str]) -> tuple[str, ...]:
    """`a.b` is key b of object a, unless the records have a key `a.b`."""
    return (column,) if column in top_level else tuple(column.split("."))


def _object(line: str) -> Any:
    try:
        return json.loads(line)
    except (ValueError, RecursionError):
        return None


def _keys(value: Any, above: tuple[str, ...] = ()) -> Iterable[tuple[str, ...]]:
    """The paths of all keys in an object; a list counts for its elements."""
    if isinstance(value, list):
        for element in value:
            yield from _keys(element, above)
    elif isinstance(value, dict):
        for key, inner in value.items():
            yield (*above, key)
            yield from _keys(inner, (*above, key))


def _schema(places: Iterable[Sequence[str]], exploded: Sequence[str] | None) -> str:
    """The type of a record with just these keys, every leaf a string."""
    tree: dict[str, Any] = {}
    for place in [*places, *([exploded] if exploded else [])]:
        branch = tree
        for key in place:
            branch = branch.setdefault(key, {})
    return _type(tree, (), exploded)


def _type(tree: Mapping[str, Any], above: tuple[str, ...], exploded: Sequence[str] | None) -> str:
    inner = ", ".join(f"{_quoted(key)}: {_type(branch, (*above, key), exploded)}" for key, branch in tree.items())
    kind = f"STRUCT<{inner}>" if tree else "STRING"
    return f"ARRAY<{kind}>" if exploded and above == tuple(exploded) else kind


def _nested(column: str, place: Sequence[str]) -> Column:
    return F.col(".".join([column, *[_quoted(key) for key in place]]))


def _quoted(name: str) -> str:
    return "`" + name.replace("`", "``") + "`"
