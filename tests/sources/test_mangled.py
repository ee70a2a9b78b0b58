"""Files that were damaged at random: nothing crashes, and each line is an event or refused, with what it said.

FORETASTE_MANGLED=100000 python -m pytest tests/sources/test_mangled.py     so many lines of each format
"""

import json
import os
import random
import re
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path

import pytest
from pyspark.sql import SparkSession

from foretaste.settings import EventColumns, SourceSettings
from foretaste.sources import files
from foretaste.sources.judge import REASONS, judge

NUMBER = int(os.environ.get("FORETASTE_MANGLED", "2000"))
COLUMNS = EventColumns(user_id="user", item_id="item", event_type="what", event_time="at", price="price", quantity="number")
NASTY = [
    b'"',
    b"'",
    b",",
    b"\t",
    b"{",
    b"}",
    b"[",
    b"]",
    b":",
    b"\\",
    b"\0",
    b"\xff",
    b"\xc3",
    b"\xe2\x80\xa8",
    b"\x1f",
    b"1e999",
    b"NaN",
    b"-",
]
HEADER = ["user", "item", "what", "at", "price", "number"]


def record(choose: random.Random) -> list[str]:
    kind = choose.choice(["view", "cart", "purchase", "search", "exposure"])
    at = f"2024-0{choose.randint(1, 9)}-1{choose.randint(0, 9)}T{choose.randint(10, 23)}:00:00Z"
    return [f"u{choose.randint(1, 99)}", f"i{choose.randint(1, 99)}", kind, at, f"{choose.random():.2f}", str(choose.randint(1, 9))]


def line(kind: str, choose: random.Random) -> bytes:
    fields = record(choose)
    if kind == "json":
        return json.dumps(dict(zip(HEADER, fields, strict=True))).encode()
    return {"csv": ",", "tsv": "\t"}[kind].join(f'"{field}"' if choose.random() < 0.2 else field for field in fields).encode()


def mangled(data: bytes, choose: random.Random) -> bytes:
    """With one to four bytes or stretches changed, lost, doubled, cut off or put in between. Line breaks stay as they are."""
    for _ in range(choose.randint(1, 4)):
        at = choose.randint(0, len(data))
        end = min(len(data), at + choose.randint(1, 12))
        data = choose.choice(
            [
                data[:at] + choose.choice(NASTY) + data[at:],
                data[:at] + data[end:],
                data[:at] + data[at:end] * 2 + data[end:],
                data[:at],
                data[:at] + bytes([choose.randrange(256)]) + data[at + 1 :],
                data[end:] + data[:at],
            ]
        )
    return re.sub(rb"[\r\n]", b"", data)


def decoded(text: str) -> str:
    """Java and Python put another number of marks in the place of bytes that are no UTF-8."""
    return re.sub("\ufffd+", "\ufffd", text)


@pytest.mark.parametrize("kind", ["csv", "tsv", "json"])
def test_each_line_is_an_event_or_refused(spark: SparkSession, tmp_path: Path, kind: str) -> None:
    choose = random.Random(kind)
    head = {"csv": ",".join(HEADER), "tsv": "\t".join(HEADER)}.get(kind)
    written = [mangled(line(kind, choose), choose) if choose.random() < 0.9 else line(kind, choose) for _ in range(NUMBER)]
    path = tmp_path / "events.txt"
    path.write_bytes(b"\n".join([*([head.encode()] if head else []), *written]))
    settings = SourceSettings(path=str(path), format=kind, columns=COLUMNS)
    judged = judge(files.events(spark, settings), "shop", datetime(2000, 1, 1, tzinfo=UTC), datetime(2030, 1, 1, tzinfo=UTC))
    rows = judged.select("reason", "record").collect()
    told = Counter(row.reason for row in rows)
    assert set(told) <= {None, *REASONS}
    assert told[None] > NUMBER // 20
    lines = [decoded(text.decode(errors="replace")) for text in written if text.strip(b" ")]
    assert len(rows) == len(lines)
    assert sum(told[reason] for reason in REASONS) > NUMBER // 20
    refused = Counter(decoded(row.record) for row in rows if row.reason is not None)
    assert not refused - Counter(lines)
