"""What somebody might write into settings, data or files to make a job do something else: it is refused, or is plain text."""

import json
from pathlib import Path

import pytest
from pyspark.sql import SparkSession

from foretaste import settings as settings_module
from foretaste.errors import SettingsError, SourceError
from foretaste.settings import EventColumns, Settings, SourceSettings
from foretaste.steps.ingest import ingest
from foretaste.steps.sessionize import sessionize
from foretaste.tables import Warehouse
from foretaste.tables.events import EVENTS
from foretaste.tables.sessions import SESSIONS

DROP = "x`; DROP TABLE events; --"
COLUMNS = EventColumns(user_id="user", item_id="item", event_time="at")


def loaded(folder: Path, text: str, *overrides: str) -> Settings:
    file = folder / "shop.yaml"
    file.write_text(text, encoding="utf-8")
    return settings_module.load(file, overrides)


@pytest.mark.parametrize("path", [DROP, "a'b", 'a"b', "a\nb", "a;b", "a`b", "", " "])
def test_a_path_holds_nothing_of_sql(tmp_path: Path, path: str) -> None:
    for override in (f"warehouse.path={json.dumps(path)}", f"privacy.pseudonyms={json.dumps({'key': 'env:KEY', 'vault': {'path': path}})}"):
        with pytest.raises(SettingsError, match="path: a path without quotes"):
            loaded(tmp_path, "{}", override)


@pytest.mark.parametrize("name", [DROP, "a.b", "a b", "../b", "1a", "a-b", ""])
def test_catalogs_and_schemas_are_plain_names(tmp_path: Path, name: str) -> None:
    for warehouse in ({"catalog": name, "schema": "shop"}, {"catalog": "main", "schema": name}):
        with pytest.raises(SettingsError, match=r"warehouse\.(catalog|schema)"):
            loaded(tmp_path, "{}", f"warehouse={json.dumps(warehouse)}")


@pytest.mark.parametrize("key", ["0123456789abcdef0123456789abcdef", "file:/etc/passwd", "env:A B", "secret:a", "env:$(id)"])
def test_a_key_is_never_in_the_settings_but_where_it_lies(tmp_path: Path, key: str) -> None:
    with pytest.raises(SettingsError, match=r"privacy\.pseudonyms\.key") as caught:
        loaded(tmp_path, "{}", f"privacy.pseudonyms={json.dumps({'key': key, 'vault': {'path': 'vault'}})}")
    assert key not in str(caught.value)


def test_yaml_makes_no_objects(tmp_path: Path) -> None:
    for text in ("!!python/object/apply:os.mkdir [made]", "warehouse: {path: !!python/object/apply:os.mkdir [made]}"):
        with pytest.raises(SettingsError, match="not YAML"):
            loaded(tmp_path, text)
    with pytest.raises(SettingsError, match="not YAML"):
        loaded(tmp_path, "{}", "warehouse.path=!!python/object/apply:os.mkdir [made]")
    assert not Path("made").exists()


def test_secrets_are_in_no_message_and_no_printed_settings(tmp_path: Path) -> None:
    secret = "wJalrXUtnFEMI"
    settings = loaded(tmp_path, f"spark: {{conf: {{spark.hadoop.fs.s3a.secret.key: {secret}}}}}")
    assert secret not in repr(settings)
    assert secret not in str(settings.spark)
    assert settings.spark.conf == {"spark.hadoop.fs.s3a.secret.key": secret}
    with pytest.raises(SettingsError) as caught:
        loaded(tmp_path, f"spark: {{conf: {{spark.hadoop.fs.s3a.secret.key: [{secret}]}}, master: 3}}")
    assert secret not in str(caught.value)


@pytest.mark.parametrize("kind", ["csv", "json", "parquet"])
def test_names_of_columns_are_names(spark: SparkSession, warehouse: Warehouse, tmp_path: Path, kind: str) -> None:
    """A column that is called like SQL is read as that column; one that is not there is missing, whatever it says."""
    odd = "user`) OR (1=1"
    rows = spark.createDataFrame([("ann", "tea", "2024-04-01")], f"`{odd.replace('`', '``')}` string, item string, at string")
    getattr(rows.coalesce(1).write.option("header", "true"), kind)(str(tmp_path / "raw"))
    source = {"path": str(tmp_path / "raw"), "format": kind}
    read = Settings(source=SourceSettings(**source, columns=COLUMNS.model_copy(update={"user_id": odd})))
    ingest(warehouse, read)
    assert [row.user_id for row in warehouse.read(EVENTS).collect()] == ["ann"]
    with pytest.raises(SourceError, match="there is no column"):
        ingest(warehouse, Settings(source=SourceSettings(**source, columns=COLUMNS.model_copy(update={"user_id": "1) OR (1=1"}))))


def test_what_data_say_is_text(warehouse: Warehouse, tmp_path: Path) -> None:
    nasty = ["'); DROP TABLE events; --", DROP, "${env:HOME}", "{{7*7}}", "../../etc/passwd", "\\x00", "<script>alert(1)</script>"]
    lines = [f'"{user}","{user}",2024-04-01' for user in nasty]
    (tmp_path / "events.csv").write_text("\n".join(["user,item,at", *lines]), encoding="utf-8")
    settings = Settings(source=SourceSettings(path=str(tmp_path / "events.csv"), columns=COLUMNS, name=DROP))
    ingest(warehouse, settings)
    sessionize(warehouse, settings)
    assert sorted(row.user_id for row in warehouse.read(SESSIONS).collect()) == sorted(nasty)
    assert {row.source for row in warehouse.read(EVENTS).collect()} == {DROP}
