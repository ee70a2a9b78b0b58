"""JSON lines: nested keys, arrays, and lines that are no object."""

import json
from pathlib import Path

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from pyspark.sql import SparkSession

from foretaste.errors import SourceError
from foretaste.sources.jsonlines import read_json
from foretaste.sources.parsed import Wanted


def read(spark: SparkSession, path: Path, wanted: Wanted) -> tuple[list[tuple[object, ...]], list[str]]:
    """The good rows, and the lines that do not parse."""
    parsed = read_json(spark, str(path), {}, wanted)
    rows = parsed.rows.select(*parsed.fields.values(), "corrupt_line").collect()
    return [tuple(row)[:-1] for row in rows if row.corrupt_line is None], [row.corrupt_line for row in rows if row.corrupt_line is not None]


def write(tmp_path: Path, *lines: str) -> Path:
    path = tmp_path / "events.json"
    path.write_text("\n".join(lines), encoding="utf-8")
    return path


def test_lines_that_are_no_object_are_malformed_and_kept(spark: SparkSession, tmp_path: Path) -> None:
    torn = [
        '{"u": "1"', "{u: 1}", '{"u": "1"} x', '{"u": "1"}{"u": "2"}', '{"u": "1"}, {"u": "2"}', "null", "1", '"u"', "[]", '[{"u": "1"}]',
        '{"g": "flat", "u": "1"}', "[" * 3000, "\x00",
    ]  # fmt: skip
    good = [
        '{"u": "1", "g": {"i": 5}}',
        "  ",
        '{"u": 2}',
        '{"u": null, "g": null}',
        '{"u": "\\u00e4", "more": [1, {}]}',
    ]
    rows, corrupt = read(spark, write(tmp_path, *good, *torn), Wanted(columns={"user_id": "u", "item_id": "g.i"}))
    assert rows == [("1", "5"), ("2", None), (None, None), ("ä", None)]
    assert corrupt == torn


def test_an_array_is_exploded_and_its_records_without_elements_stay(spark: SparkSession, tmp_path: Path) -> None:
    wanted = Wanted(columns={"user_id": "u", "item_id": "items.id", "price": "items.price"}, explode="items")
    path = write(
        tmp_path,
        '{"u": "1", "items": [{"id": "a", "price": 1.5}, {"id": "b"}]}',
        '{"u": "2", "items": []}',
        '{"u": "3"}',
        '{"u": "4", "items": "a"}',
    )
    rows, corrupt = read(spark, path, wanted)
    assert rows == [("1", "a", "1.5"), ("1", "b", None), ("2", None, None), ("3", None, None)]
    assert corrupt == ['{"u": "4", "items": "a"}']


def test_a_key_with_a_dot_and_one_that_comes_late(spark: SparkSession, tmp_path: Path) -> None:
    lines = ['{"u": "1", "a.b": "x"}'] * 150 + ['{"u": "2", "late": {"i": "y"}}']
    rows, _ = read(spark, write(tmp_path, *lines), Wanted(columns={"user_id": "u", "item_id": "a.b", "category": "late.i"}))
    assert (rows[0], rows[-1]) == (("1", "x", None), ("2", None, "y"))


def test_a_byte_order_mark_is_no_part_of_the_first_record(spark: SparkSession, tmp_path: Path) -> None:
    path = tmp_path / "bom.json"
    path.write_bytes(b'\xef\xbb\xbf{"u": "1"}\r\n{"u": "2"}\r\n')
    assert read(spark, path, Wanted(columns={"user_id": "u"})) == ([("1",), ("2",)], [])


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (
            ['{"user": "1", "geo": {"city": "x"}}'],
            r"no column 'users' \(source.columns.user_id\) .* mean 'user'\? Found: user, geo, geo.city",
        ),
        (["", " "], "the file is empty"),
        (["no json"], "no column 'users'"),
    ],
)
def test_what_cannot_be_mapped_is_refused(spark: SparkSession, tmp_path: Path, lines: list[str], message: str) -> None:
    with pytest.raises(SourceError, match=message):
        read(spark, write(tmp_path, *lines), Wanted(columns={"user_id": "users"}))


@settings(max_examples=3, deadline=None, derandomize=True, phases=[Phase.explicit, Phase.generate])
@given(
    st.lists(
        st.text(max_size=10) | st.none() | st.booleans() | st.dictionaries(st.text(max_size=3), st.text(max_size=3)),
        min_size=1,
        max_size=60,
    )
)
def test_any_value_of_a_key_is_read(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory, values: list[object]) -> None:
    path = write(tmp_path_factory.mktemp("json"), *[json.dumps({"u": value}) for value in values])
    rows, corrupt = read(spark, path, Wanted(columns={"user_id": "u"}))
    assert corrupt == []
    assert len(rows) == len(values)
    assert [row[0] for row, value in zip(rows, values, strict=True) if isinstance(value, str | None)] == [
        value for value in values if isinstance(value, str | None)
    ]
