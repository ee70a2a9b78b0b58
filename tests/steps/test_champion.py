"""Which version serves: a challenger must beat the champion on the same validation rows."""

from pathlib import Path
from types import SimpleNamespace

import pytest
from pyspark.sql import SparkSession

from foretaste import registry
from foretaste.settings import Settings, WarehouseSettings
from foretaste.steps.champion import crown
from foretaste.steps.sequence import sequence
from foretaste.steps.sessionize import sessionize
from foretaste.steps.train import train
from foretaste.tables import Warehouse
from tests.steps.shop import told

CIRCLE = "abcdefgh"  # everybody goes round, one item an hour
NUM_USERS = 16


def settings(model: str) -> Settings:
    return Settings.model_validate(
        {
            "sequences": {"protocol": "leave_one_out", "length": 6, "min_item_count": 1, "refit": True},
            "tasks": {"interest": {"model": {"name": model}}},
            "evaluation": {"at": [1], "bootstrap": 10},
        }
    )


def goes_round(warehouse: Warehouse, first: int, last: int, items: str = CIRCLE) -> None:
    told(warehouse, *[(f"u{user}", float(hour), items[(user + hour) % len(items)]) for user in range(first, last) for hour in range(5)])
    sessionize(warehouse, settings("markov"))
    sequence(warehouse, settings("markov"))


def trained(warehouse: Warehouse, model: str) -> str:
    return train(warehouse, settings(model)).notes[-1]


@pytest.fixture(scope="module")
def shop(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> Warehouse:
    warehouse = Warehouse(spark, WarehouseSettings(path=str(tmp_path_factory.mktemp("shop") / "warehouse")))
    goes_round(warehouse, 0, NUM_USERS)
    return warehouse


def test_the_better_version_serves(shop: Warehouse) -> None:
    assert trained(shop, "popularity") == "interest version 1 is the champion: there was none"
    assert trained(shop, "markov").startswith("interest version 2 is the champion now, and version 1 was: recall@1 1.0000 against 0.")
    assert registry.load(shop.path, "interest").version == 2
    assert trained(shop, "popularity").startswith("interest version 3 does NOT beat the champion, version 2, which stays: recall@1 0.")
    assert trained(shop, "markov").startswith("interest version 4 does NOT beat the champion, version 2, which stays")  # it is no better
    assert (registry.load(shop.path, "interest").version, registry.versions(shop.path, "interest")) == (2, [1, 2, 3, 4])

    # What is compared is what was counted before validation time was: what ships has seen the answers.
    ships, judged = (registry.load(shop.path, "interest", 1).network(judged=flag) for flag in (False, True))
    assert float(ships.popularity.sum() - judged.popularity.sum()) == NUM_USERS  # each user's validation event

    # Then the vocabulary gets other numbers: an item that is more frequent than all others, and users who go round another circle.
    goes_round(shop, NUM_USERS, NUM_USERS + 8, items="zyx")
    note = trained(shop, "markov")
    assert note.startswith("interest version 5 is the champion now, and version 2 was: recall@1 1.0000 against 0.6667")  # 16 of 24 users
    assert note.endswith("on the same validation rows, with the champion's own vocabulary")
    assert trained(shop, "popularity").startswith("interest version 6 does NOT beat")


def test_a_champion_that_cannot_be_read_is_replaced(shop: Warehouse) -> None:
    challenger = registry.load(shop.path, "interest")
    (Path(shop.path) / "models/interest/1/weights.safetensors").write_bytes(b"cut short")
    registry.crown(shop, "interest", 1)
    assert "version 1 was not compared, since it cannot be read" in crown(shop, settings("markov"), challenger)
    assert registry.champion(shop.path, "interest") == challenger.version


def test_champion_is_the_newest_where_none_was_crowned(tmp_path: Path) -> None:
    assert registry.champion(str(tmp_path), "interest") is None
    for version in ("1", "2"):
        (tmp_path / "models/interest" / version).mkdir(parents=True)
    assert registry.champion(str(tmp_path), "interest") == 2
    assert registry.champion(str(tmp_path), "interest", before=2) == 1
    registry.crown(SimpleNamespace(path=str(tmp_path)), "interest", 1)  # type: ignore[arg-type]
    assert registry.champion(str(tmp_path), "interest") == registry.champion(str(tmp_path), "interest", before=1) == 1
