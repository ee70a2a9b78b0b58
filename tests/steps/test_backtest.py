"""Two folds of a small shop: what each knows, what it says, and that they touch nothing of the deployment's own."""

from typing import Any

import pytest

from foretaste.errors import SettingsError, TableError
from foretaste.settings import Settings
from foretaste.steps.backtest import backtest
from foretaste.steps.sessionize import sessionize
from foretaste.tables import Warehouse
from foretaste.tables.metrics import METRICS
from foretaste.tables.sequences import SEQUENCES
from foretaste.tables.sessions import SESSIONS
from foretaste.tables.vocabulary import VOCABULARY
from tests.steps.shop import told


def settings(**evaluation: Any) -> Settings:
    """Splits of a day each, at the end of the events; what is popular changes on the last day."""
    return Settings.model_validate(
        {
            "sequences": {"protocol": "session_next_item", "length": 4, "valid_from": "2d", "test_from": "1d", "min_item_count": 1},
            "tasks": {"interest": {"model": {"name": "popularity"}}},
            "evaluation": {
                "folds": 2,
                "fold_step": "1d",
                "at": [1, 10],
                "bootstrap": 10,
                "baselines": ["markov", "popularity"],
                **evaluation,
            },
        }
    )


def test_each_fold_knows_only_what_came_before(warehouse: Warehouse) -> None:
    usual = [(f"user {day} {number}", 24 * day + number + step / 10, item) for day in range(4) for number in range(3)
             for step, item in enumerate(("tea", "tea", "milk"))]  # fmt: skip
    last = [(f"late {number}", 96 + 20 + number + step / 10, "new") for number in range(3) for step in range(2)]
    told(warehouse, *usual, *last)
    with pytest.raises(TableError, match="no table sessions"):
        backtest(warehouse, settings())
    sessionize(warehouse, settings())
    before = warehouse.version(SESSIONS)
    with pytest.raises(SettingsError, match=r"fold 3 does not fit .*evaluation.folds"):
        backtest(warehouse, settings(folds=5))

    report = backtest(warehouse, settings())
    rows = warehouse.read(METRICS).where("metric = 'recall@1' AND model IN ('interest', 'markov')").collect()
    found = {(row.segment, row.model): (row.value, row.num_rows) for row in rows}
    # Fold 0 tests on Friday's three sessions of something new, fold 1 on Thursday's three of two steps: tea, then milk.
    assert found == {
        ("fold 0", "interest"): (0.0, 3),
        ("fold 0", "markov"): (0.0, 3),
        ("fold 1", "interest"): (0.5, 6),
        ("fold 1", "markov"): (found["fold 1", "markov"][0], 6),
    }
    text = "\n".join(report.notes)
    assert "interest: recall@10 on the test rows of each fold" in text
    assert any(line.split() == ["interest", "0.5000", "0.0000", "1.0000"] for line in report.notes)
    assert "of 2 folds" in text
    # Fold 1: tea, which is known, comes after tea, and milk after that: of ten places both are hits; nobody knew what was new on Friday.
    assert "interest, items that users then act on, of ten shown at each of 1,000 moments" in text
    assert any(line.split() == ["interest", "500.0", "0.0", "1,000.0"] for line in report.notes)
    assert any(line.split() == ["popularity", "500.0", "0.0", "1,000.0"] for line in report.notes)

    earlier = warehouse.annex("folds/1", SESSIONS)
    assert earlier.read(SEQUENCES).where("as_of >= '2024-04-05'").isEmpty()
    assert {row.value for row in earlier.read(VOCABULARY).where("field = 'item'").collect()} == {"tea", "milk"}
    assert not warehouse.exists(SEQUENCES)
    assert warehouse.version(SESSIONS) == earlier.version(SESSIONS) == before
    with pytest.raises(TableError, match="another warehouse's"):
        earlier.append(SESSIONS, earlier.read(SESSIONS))


def test_without_times_there_is_no_origin_to_move(warehouse: Warehouse) -> None:
    without = settings().model_copy(update={"sequences": settings().sequences.model_copy(update={"protocol": "leave_one_out"})})
    with pytest.raises(SettingsError, match="no origin to move"):
        backtest(warehouse, without)
