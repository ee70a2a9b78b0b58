"""erase: users are gone from every table, older version, log and file, others are as they were, and files read again bring nobody back."""

import hashlib
import hmac
from collections.abc import Callable
from pathlib import Path

import pytest
from pyspark.sql import SparkSession
from pyspark.sql import functions as F

from foretaste.errors import SettingsError, TableError
from foretaste.settings import EventColumns, Settings, SourceSettings, WarehouseSettings
from foretaste.steps import erase as erasing
from foretaste.steps.erase import erase
from foretaste.steps.identities import Identities
from foretaste.steps.ingest import ingest
from foretaste.steps.running import announced
from foretaste.steps.sequence import sequence
from foretaste.steps.sessionize import sessionize
from foretaste.steps.traces import search
from foretaste.tables import Warehouse
from foretaste.tables.erasures import ERASURES
from foretaste.tables.events import EVENTS
from foretaste.tables.quarantine import QUARANTINE
from foretaste.tables.scores import SCORES
from foretaste.tables.sequences import SEQUENCES
from foretaste.tables.sessions import SESSIONS
from foretaste.tables.user_ids import USER_IDS

Step = Callable[[Warehouse, Settings], object]
KEY = hashlib.sha256(b"a key for this test").hexdigest()
LEAVERS = ("leaver-one@shop", "7")
STAYERS = ("leaver-one@shops", "8", "77")


def shop(folder: Path, **privacy: object) -> Settings:
    """Five users' events over four weeks, some of them at fault."""
    lines = ["user,item,at,price"]
    for number, user in enumerate((*LEAVERS, *STAYERS)):
        lines += [f"{user},{'abc'[(day + number) % 3]},2024-04-{day + 1:02}T1{number}:00:00Z,1" for day in range(28)]
        lines += [f"{user},a,once,1", f"{user},a,2024-04-01"]
    (folder / "events.csv").write_text("\n".join(lines), encoding="utf-8")
    (folder / "leavers.txt").write_text("\n".join(LEAVERS) + "\n\n", encoding="utf-8")
    columns = EventColumns(user_id="user", item_id="item", event_time="at", price="price")
    return Settings.model_validate(
        {
            "source": SourceSettings(path=str(folder / "events.csv"), columns=columns),
            "sequences": {"length": 4, "horizon": "2d", "valid_from": "8d", "test_from": "4d", "min_item_count": 1, "rows_per_group": 8},
            "privacy": {"erase": {"users": str(folder / "leavers.txt"), "wait": "1s"}, **privacy},
        }
    )


def filled(warehouse: Warehouse, settings: Settings, *steps: Step) -> None:
    for step in (ingest, sessionize, *steps):
        step(warehouse, settings)
    scores = warehouse.read(SESSIONS).selectExpr(
        "timestamp'2024-04-29' as_of", "'interest' task", "user_id",
        "array(struct('a' target_id, 0.5d score, array('bought a') reasons)) targets",
        "'interest' model", "1 model_version", "'1' data_version", "false fallback", "current_timestamp() scored_at", "null filters",
    )  # fmt: skip
    warehouse.overwrite(SCORES, SCORES.select(scores.dropDuplicates(["user_id"])))
    warehouse.replace_where(SCORES, warehouse.read(SCORES).limit(0), "user_id = 'nobody'")


def users_of(warehouse: Warehouse, *tables: object) -> set[str]:
    return {row.user_id for table in tables for row in warehouse.read(table).select("user_id").distinct().collect()}  # type: ignore[arg-type]


def test_users_are_gone_from_all_there_is_and_others_stay(warehouse: Warehouse, tmp_path: Path) -> None:
    settings = shop(tmp_path)
    filled(warehouse, settings, sequence)
    ingest(warehouse, settings)  # nothing new
    page = Path(warehouse.path, "report.html")
    page.write_text("<h3>User leaver-one@shop</h3>")
    assert search(warehouse.spark, [warehouse.path], LEAVERS).where  # so that the search below could find them

    others = "user_id NOT IN ('leaver-one@shop', '7')"
    kept = [(table, warehouse.read(table).where(others).collect()) for table in (EVENTS, SESSIONS, SEQUENCES)]
    report = erase(warehouse, settings)
    assert report.read == {"users": 2}
    assert not page.exists()
    assert any(note.startswith(f"removed {page}") for note in report.notes)
    assert report.written["events deleted"] == 56
    assert report.written["events_quarantine deleted"] == 4
    assert report.written["scores deleted"] == 2
    for table, rows in kept:
        assert sorted(map(str, warehouse.read(table).collect())) == sorted(map(str, rows))
    assert users_of(warehouse, EVENTS, SESSIONS, SEQUENCES, SCORES) == set(STAYERS)
    assert warehouse.read(QUARANTINE).count() == 6
    assert not search(warehouse.spark, [warehouse.path], LEAVERS).where
    assert search(warehouse.spark, [warehouse.path], STAYERS[:1]).where

    again = ingest(warehouse, settings)  # the same file
    assert again.notes[0].endswith("+ 6 quarantined + 60 of erased users")
    assert again.written["events"] == 0
    assert "not known any more" in sessionize(warehouse, settings).notes[0]  # all of them anew: the log of changes went, too
    assert users_of(warehouse, EVENTS, SESSIONS, SEQUENCES) == set(STAYERS)
    assert not search(warehouse.spark, [warehouse.path], LEAVERS).where


def test_a_pseudonym_is_an_hmac_and_its_owner_is_known_in_the_vault_alone(
    warehouse: Warehouse, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SHOP_KEY", KEY)
    pseudonyms = {"key": "env:SHOP_KEY", "vault": {"path": str(tmp_path / "vault")}}
    settings = shop(tmp_path, pseudonyms=pseudonyms)
    filled(warehouse, settings)
    vault = Warehouse(warehouse.spark, WarehouseSettings(path=str(tmp_path / "vault")))

    theirs = {user: hmac.new(KEY.encode(), user.encode(), "sha256").hexdigest() for user in (*LEAVERS, *STAYERS)}
    assert users_of(warehouse, EVENTS, SESSIONS, SCORES) == set(theirs.values())
    assert {row.user_id: row.pseudonym for row in vault.read(USER_IDS).collect()} == theirs
    assert not warehouse.exists(QUARANTINE)
    assert vault.read(QUARANTINE).count() == 10
    assert (tmp_path / "vault").stat().st_mode & 0o077 == 0
    assert not search(warehouse.spark, [warehouse.path], [*theirs, KEY, KEY[:20]]).where
    assert not search(warehouse.spark, [vault.path], [KEY, KEY[:20]]).where

    (tmp_path / "vault").rename(tmp_path / "away")  # the jobs after ingest do not open it
    sequence(warehouse, settings)
    (tmp_path / "away").rename(tmp_path / "vault")

    report = erase(warehouse, settings)
    assert report.written["user_ids deleted"] == 2
    gone = [*LEAVERS, *(theirs[user] for user in LEAVERS)]
    assert not search(warehouse.spark, [warehouse.path, vault.path], gone).where
    assert ingest(warehouse, settings).notes[0].endswith("+ 60 of erased users")


def test_a_key_that_does_not_fit_is_refused(warehouse: Warehouse, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHOP_KEY", KEY)
    asked = shop(tmp_path, pseudonyms={"key": "env:SHOP_KEY", "vault": {"path": str(tmp_path / "vault")}})
    ingest(warehouse, asked)
    Identities(warehouse, asked.privacy)
    with pytest.raises(SettingsError, match="holds pseudonyms"):
        Identities(warehouse, shop(tmp_path).privacy)
    cases = [
        (KEY[::-1], "holds pseudonyms of another key"),
        ("short", "too easy to guess"),
        ("a" * 64, "too easy to guess"),
        ("", "no key"),
    ]
    for key, message in cases:
        monkeypatch.setenv("SHOP_KEY", key)
        with pytest.raises(SettingsError, match=message) as caught:
            Identities(warehouse, asked.privacy)
        assert not key or key not in str(caught.value)


def test_plain_ids_and_pseudonyms_do_not_mix(warehouse: Warehouse, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ingest(warehouse, shop(tmp_path))
    monkeypatch.setenv("SHOP_KEY", KEY)
    for vault, message in ((tmp_path / "vault", "own ids"), (Path(warehouse.path), "vault is the warehouse itself")):
        with pytest.raises(SettingsError, match=message):
            Identities(warehouse, shop(tmp_path, pseudonyms={"key": "env:SHOP_KEY", "vault": {"path": str(vault)}}).privacy)


def test_jobs_that_run_are_waited_for_and_what_they_write_goes_too(
    warehouse: Warehouse, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = shop(tmp_path)
    filled(warehouse, settings)
    with announced(warehouse.path, ["score"]), pytest.raises(TableError, match=r"score on .* since"):
        erase(warehouse, settings)
    assert users_of(warehouse, EVENTS, SCORES) == set(STAYERS)

    def scored_meanwhile(jobs: object, seconds: float) -> list[object]:
        """What a scoring that began before writes just before it ends."""
        warehouse.append(SCORES, SCORES.select(warehouse.read(SCORES).limit(1).withColumn("user_id", F.lit("7"))))
        return []

    monkeypatch.setattr(erasing, "still_at_work", scored_meanwhile)
    assert erase(warehouse, settings).written == {"scores deleted": 1}
    assert users_of(warehouse, SCORES) == set(STAYERS)


def test_whom_to_erase_must_be_said(warehouse: Warehouse, tmp_path: Path, spark: SparkSession) -> None:
    settings = shop(tmp_path)
    nobody = settings.model_copy(update={"privacy": settings.privacy.model_copy(update={"erase": type(settings.privacy.erase)()})})
    with pytest.raises(SettingsError, match="nobody is named"):
        erase(warehouse, nobody)
    inside = type(settings.privacy.erase)(users=f"{warehouse.path}/leavers.txt")
    with pytest.raises(SettingsError, match="lies in the warehouse"):
        erase(warehouse, settings.model_copy(update={"privacy": settings.privacy.model_copy(update={"erase": inside})}))
    (tmp_path / "leavers.txt").write_text("\n \n")
    with pytest.raises(SettingsError, match="no ids in it"):
        erase(warehouse, settings)
    assert not warehouse.exists(ERASURES)
