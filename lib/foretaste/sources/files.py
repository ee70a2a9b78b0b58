"""files: CSV, TSV, JSON lines or Parquet of any shop, whose columns the settings map to the event contract; or a line a user."""

from collections.abc import Callable, Mapping

from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F

from foretaste.contract import EVENT_TYPES
from foretaste.errors import SourceError
from foretaste.settings import DescribedFile, EventColumns, SourceSettings
from foretaste.sources import times
from foretaste.sources.delimited import read_csv, read_tsv
from foretaste.sources.jsonlines import read_json
from foretaste.sources.lines import LINE_COLUMNS, read_lines
from foretaste.sources.parquet import read_parquet
from foretaste.sources.parsed import Parsed, Wanted
from foretaste.sources.reading import faults_of
from foretaste.sources.records import ITEM_FIELDS, NUMBER_FIELDS, TEXT_FIELDS, as_text, raw_records

CAVEAT = ""
_SHARE = r"^([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]{1,3})?$"

FORMATS: Mapping[str, Callable[[SparkSession, str, Mapping[str, str], Wanted], Parsed]] = {
    "csv": read_csv,
    "tsv": read_tsv,
    "json": read_json,
    "parquet": read_parquet,
    "lines": read_lines,
}


def events(spark: SparkSession, settings: SourceSettings) -> DataFrame:
    """Raw records of the files under `settings.path`, by `settings.columns`."""
    if settings.path is None:
        raise SourceError("a source of kind files needs a path", where="source.path", fix="Set it to a file, a folder or a glob.")
    times.check(spark, settings.time)
    columns = _columns(settings)
    mapped = _mapped(columns)
    parsed = _parsed(spark, settings, mapped)
    fields = {field: as_text(parsed.fields[field], parsed.kind(field)) for field in mapped if field in TEXT_FIELDS}
    fields |= {field: parsed.fields[field] for field in mapped if field in NUMBER_FIELDS}
    fields["event_type"] = _event_type(fields.get("event_type"), settings)
    if "category" in fields and settings.category_separator != "/":
        fields["category"] = F.replace(fields["category"], F.lit(settings.category_separator), F.lit("/"))
    if "event_id" in fields and parsed.element is not None:  # one id for a record, but a row for each of its elements
        fields["event_id"] = F.concat_ws("#", fields["event_id"], parsed.element)
    instant = times.as_timestamp(parsed.fields["event_time"], parsed.kind("event_time"), settings.time)
    if "time_offset" in mapped:
        instant = times.plus_milliseconds(instant, parsed.fields["time_offset"])
    return raw_records(
        parsed.rows,
        fields,
        event_time=instant,
        source_file=F.col("source_file"),
        record=F.col("record"),
        corrupt_line=F.col("corrupt_line"),
        extra=_extra(parsed, columns),
    )


def types(spark: SparkSession, settings: SourceSettings) -> Mapping[str, str]:
    """Of Parquet's columns; the other formats have none."""
    mapped = _mapped(_columns(settings))
    kinds = _parsed(spark, settings, mapped).kinds
    return {mapped[field]: kind.simpleString() for field, kind in kinds.items()}


def _mapped(columns: EventColumns) -> dict[str, str]:
    """Field of ours (of those that are kept beside them, `extra.NAME`) → the file's column."""
    ours = {field: column for field, column in columns.model_dump(exclude={"extra"}).items() if column is not None}
    return ours | {f"extra.{name}": column for name, column in columns.extra.items()}


def _parsed(spark: SparkSession, settings: SourceSettings, mapped: Mapping[str, str]) -> Parsed:
    assert settings.path is not None
    with faults_of(settings.path):
        return FORMATS[settings.format](spark, settings.path, settings.options, Wanted(columns=mapped, explode=settings.explode))


def _extra(parsed: Parsed, columns: EventColumns) -> Column | None:
    if not columns.extra:
        return None
    return F.to_json(F.struct(*[parsed.fields[f"extra.{name}"].cast("string").alias(name) for name in columns.extra]))


def _columns(settings: SourceSettings) -> EventColumns:
    if settings.format == "lines":
        if settings.columns is not None or settings.explode is not None:
            raise SourceError("format lines has no columns to map", where="source.columns", fix="Leave out columns and explode.")
        return EventColumns(**LINE_COLUMNS)
    if settings.columns is None:
        raise SourceError("a source of kind files needs columns", where="source.columns", fix="Map user_id and event_time at least.")
    return settings.columns


def items(spark: SparkSession, settings: SourceSettings) -> DataFrame | None:
    """ITEM_FIELDS of the item file, if there is one."""
    file = settings.items
    if file is None:
        return None
    parsed = _described(spark, file, "source.items.columns")
    fields = {field: as_text(column, parsed.kind(field)) for field, column in parsed.fields.items()}
    fields["item_id"] = F.when(F.col("corrupt_line").isNull(), fields["item_id"])
    if "category" in fields and settings.category_separator != "/":
        fields["category"] = F.replace(fields["category"], F.lit(settings.category_separator), F.lit("/"))
    return parsed.rows.select(*[fields.get(name, F.lit(None)).cast("string").alias(name) for name in ITEM_FIELDS])


def campaigns(spark: SparkSession, settings: SourceSettings) -> DataFrame | None:
    """The campaign file's rows, if there is one."""
    file = settings.campaigns
    if file is None:
        return None
    parsed = _described(spark, file, "source.campaigns.columns")
    texts = {name: as_text(parsed.fields[name], parsed.kind(name)) for name in ("campaign_id", "kind", "item_id") if name in parsed.fields}
    texts["campaign_id"] = F.when(F.col("corrupt_line").isNull(), texts["campaign_id"])
    moments = {name: times.as_timestamp(parsed.fields[name], parsed.kind(name), settings.time) for name in ("starts_at", "ends_at")}
    return parsed.rows.select(
        *[texts.get(name, F.lit(None)).cast("string").alias(name) for name in ("campaign_id", "kind", "item_id")],
        *[moment.alias(name) for name, moment in moments.items()],
    )


def promotions(spark: SparkSession, settings: SourceSettings) -> DataFrame | None:
    """The promotion file's rows, if there is one."""
    file = settings.promotions
    if file is None:
        return None
    if file == "own":
        raise SourceError("files bring no promotions of their own", where="source.promotions", fix="Name a file and its columns.")
    parsed = _described(spark, file, "source.promotions.columns")
    texts = {name: as_text(parsed.fields[name], parsed.kind(name)) for name in ("item_id", "kind") if name in parsed.fields}
    texts["item_id"] = F.when(F.col("corrupt_line").isNull(), texts["item_id"])
    moments = {name: times.as_timestamp(parsed.fields[name], parsed.kind(name), settings.time) for name in ("starts_at", "ends_at")}
    share = parsed.fields["share"].cast("string") if "share" in parsed.fields else F.lit("1")
    is_given = F.trim(share) != ""
    is_number = F.trim(share).rlike(_SHARE)  # a cast would fail the job in ANSI mode
    return parsed.rows.select(
        *[texts.get(name, F.lit(None)).cast("string").alias(name) for name in ("item_id", "kind")],
        *[moment.alias(name) for name, moment in moments.items()],
        F.when(is_number, share.cast("double")).when(is_given, -1.0).alias("share"),  # -1 is no share, and so left out; null is everywhere
    )


def _described(spark: SparkSession, file: DescribedFile, key: str) -> Parsed:
    """A file beside the events, by its columns. key: the setting that maps them"""
    mapped = {field: column for field, column in file.columns.model_dump().items() if column is not None}
    with faults_of(file.path):
        return FORMATS[file.format](spark, file.path, file.options, Wanted(columns=mapped, key=key))


def has_own_ids(settings: SourceSettings) -> bool:
    return settings.columns is not None and settings.columns.event_id is not None


def _event_type(name: Column | None, settings: SourceSettings) -> Column:
    """Our name for the source's; null for one that is not mapped."""
    if name is None:
        return F.lit(settings.default_event_type)
    ours = settings.event_types or {known: known for known in EVENT_TYPES}
    return F.try_element_at(F.create_map(*[F.lit(text) for pair in ours.items() for text in pair]), name)
