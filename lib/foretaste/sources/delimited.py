"""CSV and TSV, by lines: a quoted field may hold a line break only with the option `multiLine`, which reads each file in one piece."""

import csv
from collections.abc import Mapping

from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F

from foretaste.errors import SourceError
from foretaste.sources.parsed import Parsed, Wanted
from foretaste.sources.reading import HEADERS_DIFFER, missing

_DELIMITERS = {",": "a comma", "\t": "a tab", ";": "a semicolon", "|": "a bar"}
_MAX_COLUMNS = 20_000  # Spark's parser ends the job above 20,480


def read_csv(spark: SparkSession, path: str, options: Mapping[str, str], wanted: Wanted) -> Parsed:
    return _read(spark, path, {"sep": ",", **options}, wanted)


def read_tsv(spark: SparkSession, path: str, options: Mapping[str, str], wanted: Wanted) -> Parsed:
    return _read(spark, path, {"sep": "\t", **options}, wanted)


def _read(spark: SparkSession, path: str, given: Mapping[str, str], wanted: Wanted) -> Parsed:
    if wanted.explode:
        raise SourceError("a delimited file has no arrays to explode", where="source.explode", fix="Leave it out, or read json or parquet.")
    options = {"quote": '"', "escape": '"', "header": "true", **given, "mode": "PERMISSIVE", "columnNameOfCorruptRecord": "corrupt"}
    options["sep"] = options.pop("delimiter", options["sep"]).replace("\\t", "\t")
    lines = _lines(spark, path, options)
    first = lines.where(_not_blank("line")).select("line").head()
    if first is None:
        raise SourceError("the file is empty", where=path, fix="Point the path at files with a header and rows.")
    header, has_header = first[0].removeprefix("\ufeff").rstrip("\r"), options["header"].lower() == "true"
    cells = _cells(header, options["sep"], options["quote"])
    names = cells if has_header else [f"_c{number}" for number in range(len(cells))]
    places = _places(names, wanted, path, header, options["sep"])

    schema = ", ".join([*(f"c{number} string" for number in range(len(names))), "corrupt string"])
    if options.get("multiLine", "false").lower() == "true":
        rows = _multi_line(spark, path, options, schema, names)
    else:
        data = lines.where(_not_blank("line"))
        if has_header:
            other = _other_header(header, options["sep"])
            checked = F.when(other, F.raise_error(F.lit(HEADERS_DIFFER))).otherwise(F.col("line"))
            data = data.where(F.col("line") != header).withColumn("line", checked)
        rows = _one_line_each(data, options, schema, len(names))
    return Parsed(rows=rows, fields={field: F.col(f"row.c{place}") for field, place in places.items()}, kinds={})


def _lines(spark: SparkSession, path: str, options: Mapping[str, str]) -> DataFrame:
    """line, source_file. Lines end with \\n, \\r\\n or \\r; Hadoop's reader drops a byte order mark."""
    encoding = options.get("encoding", options.get("charset", "UTF-8")).upper()
    if encoding.startswith(("UTF-16", "UTF-32", "UTF16", "UTF32")):
        raise SourceError(f"{encoding} cannot be split into lines", where="source.options.encoding", fix="Convert the files to UTF-8.")
    own = {name: value for name, value in options.items() if name not in ("encoding", "charset", "header", "multiLine")}
    text = spark.read.options(**own).text(path)
    line = F.col("value") if encoding in ("UTF-8", "UTF8") else F.decode(F.col("value").cast("binary"), encoding)
    return text.select(line.alias("line"), F.col("_metadata.file_path").alias("source_file"))


def _one_line_each(data: DataFrame, options: Mapping[str, str], schema: str, num_columns: int) -> DataFrame:
    """record (the line), source_file, row, corrupt_line."""
    quote, sep, line = options["quote"], options["sep"], F.col("line")
    too_wide = (F.length(line) > _MAX_COLUMNS) & (_count(line, sep) > _MAX_COLUMNS)
    parsed = data.select("source_file", "line", F.from_csv(F.when(~too_wide, line), schema, dict(options)).alias("row"))
    # A NUL is damage (a disk that ran full, a wrong encoding), and inside quotes Spark's parser loses it.
    corrupt = F.col("row").isNull() | F.col("row.corrupt").isNotNull() | line.contains("\0")
    if quote and num_columns > 1:
        # A quoted last field that does not close: its line break cut the record in two, and Spark's parser would take the first half.
        last = F.coalesce(F.col(f"row.c{num_columns - 1}"), F.lit(""))
        unquoted = ~last.startswith(quote) & line.endswith(F.concat(F.lit(sep), last))
        closed = line.endswith(F.concat(F.lit(sep + quote), last, F.lit(quote)))
        corrupt = corrupt | (line.contains(quote) & (_count(line, quote) % 2 == 1) & ~unquoted & ~closed)
    return parsed.select("source_file", "row", line.alias("record"), F.when(corrupt, line).alias("corrupt_line"))


def _multi_line(spark: SparkSession, path: str, options: Mapping[str, str], schema: str, names: list[str]) -> DataFrame:
    """record (a struct of the columns), source_file, row, corrupt_line."""
    table = spark.read.options(**options).schema(schema).csv(path)
    columns = [F.col(f"c{number}") for number in range(len(names))]
    return table.select(
        F.struct(*columns).alias("row"),
        F.struct(*[column.alias(name) for column, name in zip(columns, names, strict=True)]).alias("record"),
        F.col("corrupt").alias("corrupt_line"),
        F.col("_metadata.file_path").alias("source_file"),
    )


def _places(names: list[str], wanted: Wanted, path: str, header: str, sep: str) -> dict[str, int]:
    """Field of ours → the number of its column."""
    absent = {field: column for field, column in wanted.columns.items() if column not in names}
    if absent:
        others = {other: header.count(other) for other in _DELIMITERS if other != sep and other in header}
        if others and not any(column in names for column in wanted.columns.values()):
            other = max(others, key=lambda candidate: others[candidate])
            parent = wanted.key.removesuffix(".columns")
            raise SourceError(
                f"the columns are separated by {_DELIMITERS[other]}, not by {_DELIMITERS.get(sep, repr(sep))}",
                where=path,
                fix=f"Set {parent}.format: tsv." if other == "\t" else f"Set {parent}.options.sep: '{other}'.",
            )
        raise missing(absent, names, path, wanted.key)
    twice = next((column for column in wanted.columns.values() if names.count(column) > 1), None)
    if twice is not None:
        raise SourceError(f"two columns are called {twice!r}", where=path, fix="Rename one of them in the files.")
    return {field: names.index(column) for field, column in wanted.columns.items()}


def _other_header(header: str, sep: str) -> Column:
    """Whether a line has the header's cells in another order: its file's rows would be read by the wrong names."""
    same_cells = F.sort_array(F.split("line", f"\\Q{sep}\\E")) == F.array(*[F.lit(cell) for cell in sorted(header.split(sep))])
    return (F.length("line") == len(header)) & (F.col("line") != header) & same_cells


def _cells(line: str, sep: str, quote: str) -> list[str]:
    if len(sep) != 1 or len(quote) != 1:
        return line.split(sep)
    return next(csv.reader([line], delimiter=sep, quotechar=quote))


def _count(text: Column, part: str) -> Column:
    return (F.length(text) - F.length(F.replace(text, F.lit(part), F.lit("")))) / len(part)


def _not_blank(name: str) -> Column:
    return F.trim(F.col(name)) != ""
