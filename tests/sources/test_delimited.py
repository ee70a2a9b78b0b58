"""CSV and TSV: read right or told to be malformed, never lost."""

import csv
import io
from pathlib import Path

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from pyspark.sql import SparkSession

from foretaste.errors import SourceError
from foretaste.sources.delimited import read_csv, read_tsv
from foretaste.sources.parsed import Wanted
from foretaste.sources.reading import faults_of

ABC = Wanted(columns={"user_id": "a", "item_id": "b", "category": "c"})
Row = tuple[str | None, str | None, str | None]


def read(spark: SparkSession, path: Path, **options: str) -> tuple[list[Row], list[str]]:
    """The good rows, and the lines that do not parse, each in the file's order."""
    parsed = read_csv(spark, str(path), options, ABC)
    columns = [parsed.fields[field].alias(field) for field in ABC.columns]
    rows = parsed.rows.select(*columns, "corrupt_line").collect()
    return [(row[0], row[1], row[2]) for row in rows if row.corrupt_line is None], [
        row.corrupt_line for row in rows if row.corrupt_line is not None
    ]


def write(tmp_path: Path, content: bytes, name: str = "events.csv") -> Path:
    path = tmp_path / name
    path.write_bytes(content)
    return path


def test_byte_order_mark_crlf_quotes_and_blank_lines(spark: SparkSession, tmp_path: Path) -> None:
    content = b'\xef\xbb\xbf"a",b,c\r\n1,"x ""y"", z",2\r\n\r\n2,TV 32" wide,\r\n   \r\n3,"",TV 32"'
    rows, torn = read(spark, write(tmp_path, content))
    assert rows == [("1", 'x "y", z', "2"), ("2", 'TV 32" wide', None), ("3", None, 'TV 32"')]
    assert torn == []


def test_lines_with_too_few_or_too_many_fields_or_a_nul_are_malformed(spark: SparkSession, tmp_path: Path) -> None:
    wide = "4" + "," * 30_000
    rows, torn = read(spark, write(tmp_path, f"a,b,c\n1\n2,3,4,5\n{wide}\n,,\n#,\\,'\n\x00,\x00x,\n".encode()))
    assert rows == [(None, None, None), ("#", "\\", "'")]
    assert torn == ["1", "2,3,4,5", wide, "\x00,\x00x,"]


def test_a_line_break_inside_quotes_tears_a_record_that_multi_line_reads_whole(spark: SparkSession, tmp_path: Path) -> None:
    path = write(tmp_path, b'a,b,c\r\n1,"x\r\ny",2\r\n3,4,"p\nq"\r\n5,6,7\r\n')
    rows, torn = read(spark, path)
    assert rows == [("5", "6", "7")]
    assert torn == ['1,"x', 'y",2', '3,4,"p', 'q"']
    rows, torn = read(spark, path, multiLine="true")
    assert rows == [("1", "x\ny", "2"), ("3", "4", "p\nq"), ("5", "6", "7")]
    assert torn == []


def test_other_separators_encodings_and_files_without_a_header(spark: SparkSession, tmp_path: Path) -> None:
    assert read(spark, write(tmp_path, b"a;b;c\n1;2,5;3\n"), sep=";")[0] == [("1", "2,5", "3")]
    assert read(spark, write(tmp_path, "a,b,c\n1,Käse,3\n".encode("latin-1")), encoding="ISO-8859-1")[0] == [("1", "Käse", "3")]
    by_number = Wanted(columns={"user_id": "_c0", "item_id": "_c1"})
    parsed = read_tsv(spark, str(write(tmp_path, b"1\t2\n3\t4\n")), {"header": "false"}, by_number)
    assert [tuple(row) for row in parsed.rows.select(*parsed.fields.values()).collect()] == [("1", "2"), ("3", "4")]


def test_each_file_has_its_own_header(spark: SparkSession, tmp_path: Path) -> None:
    write(tmp_path, b"a,b,c\n1,2,3\n", "one.csv")
    write(tmp_path, b"a,b,c\n4,5,6\n", "two.csv")
    write(tmp_path, b"", "empty.csv")
    assert sorted(read(spark, tmp_path)[0]) == [("1", "2", "3"), ("4", "5", "6")]
    write(tmp_path, b"a,c,b\n7,8,9\n", "three.csv")
    with pytest.raises(SourceError, match="same columns in different orders"), faults_of(str(tmp_path)):
        read(spark, tmp_path)


@pytest.mark.parametrize(
    ("content", "options", "message"),
    [
        (b"a\tb\tc\n1\t2\t3\n", {}, "separated by a tab, not by a comma .* Set source.format: tsv"),
        (b"a;b;c\n1;2;3\n", {}, r"separated by a semicolon, not by a comma .* Set source.options.sep: ';'"),
        (b"a,b,c\n1,2,3\n", {"sep": "|"}, "separated by a comma, not by a bar"),
        (b"a,B,d\n1,2,3\n", {}, r"no column 'b' \(source.columns.item_id\) and 'c' .* Did you mean 'B'\? Found: a, B, d"),
        (b"a,b,c,b\n1,2,3,4\n", {}, "two columns are called 'b'"),
        (b"", {}, "the file is empty"),
        (b"a,b,c\n", {"encoding": "UTF-16"}, "UTF-16 cannot be split into lines"),
    ],
)
def test_what_cannot_be_mapped_is_refused_with_its_fix(
    spark: SparkSession, tmp_path: Path, content: bytes, options: dict[str, str], message: str
) -> None:
    with pytest.raises(SourceError, match=message):
        read(spark, write(tmp_path, content), **options)


CELL = st.text(max_size=6) | st.sampled_from(['"', '""', ",", "\n", "\r\n", "\r", "\\", "\\n", "#", "a", " ", "\x00", "'", ' "x" ', 'x"'])


@settings(max_examples=3, deadline=None, derandomize=True, phases=[Phase.explicit, Phase.generate])
@given(st.lists(st.tuples(CELL, CELL, CELL), min_size=1, max_size=60))
def test_what_a_csv_writer_writes_is_read_right_or_kept_as_malformed(
    spark: SparkSession, tmp_path_factory: pytest.TempPathFactory, records: list[tuple[str, str, str]]
) -> None:
    text = io.StringIO(newline="")
    csv.writer(text, quoting=csv.QUOTE_ALL, lineterminator="\n").writerows([("a", "b", "c"), *records])
    path = write(tmp_path_factory.mktemp("csv"), text.getvalue().encode())
    rows, torn = read(spark, path)

    def is_readable(record: tuple[str, str, str]) -> bool:
        return not any(stop in cell for cell in record for stop in "\r\n\0")

    assert rows == [tuple(cell or None for cell in record) for record in records if is_readable(record)]
    whole_lines = text.getvalue().split("\n", 1)[1]
    kept = "".join(torn) + "".join(line for record in records if is_readable(record) for line in [_line(record)])
    assert sorted(kept) == sorted(whole_lines.replace("\r", "").replace("\n", ""))


def _line(record: tuple[str, str, str]) -> str:
    text = io.StringIO(newline="")
    csv.writer(text, quoting=csv.QUOTE_ALL, lineterminator="").writerow(record)
    return text.getvalue()
