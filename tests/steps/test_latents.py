"""sessions and a stored variational model → user_latents, beside its scores, on the shop of test_score.py."""

from datetime import timedelta
from pathlib import Path

import pytest
import torch
from pyspark.sql import SparkSession

from foretaste import registry
from foretaste.errors import SettingsError
from foretaste.models import Variational
from foretaste.settings import Settings
from foretaste.steps.score import score
from foretaste.steps.train import check
from foretaste.tables import Warehouse
from foretaste.tables.scores import SCORES
from foretaste.tables.user_latents import USER_LATENTS
from tests.scoring.stored import batch, store
from tests.steps.test_score import COUNTS, FIRST_RUN, settings, shop


def of_latents(**scoring: object) -> Settings:
    return Settings.model_validate({**settings(**scoring).model_dump(exclude_unset=True), "tasks": {"latents": {"model": {"name": "vae"}}}})


def vectors(warehouse: Warehouse) -> dict[tuple[str, int], list[float]]:
    return {(row.user_id, row.model_version): row.vector for row in warehouse.read(USER_LATENTS).collect()}


@pytest.fixture
def warehouse(spark: SparkSession, tmp_path: Path) -> Warehouse:
    warehouse = shop(spark, tmp_path / "shop")
    store(Path(warehouse.path), COUNTS, task="latents", model="vae")
    return warehouse


def test_every_user_has_the_posteriors_mean_and_strangers_the_priors(warehouse: Warehouse) -> None:
    report = score(warehouse, of_latents(as_of=FIRST_RUN))
    assert report.written == {"scores of latents": 4, "user_latents of latents": 4}
    found = vectors(warehouse)
    assert {user for user, _ in found} == {"ann", "bob", "cat", "dan"}
    network = registry.load(warehouse.path, "latents").network()
    assert isinstance(network, Variational)
    # milk 2, bread 3, eggs 4, salt 5, unknown 1
    expected = network.latents(batch([[0, 0, 0, 2, 4, 3], [0, 0, 0, 0, 5, 1]]).map(torch.tensor))
    for user, vector in zip(("ann", "bob"), expected.tolist(), strict=True):
        assert found[user, 1] == pytest.approx(vector, abs=1e-6)
    assert found["cat", 1] == found["dan", 1] == [0.0] * 16
    assert warehouse.read(SCORES).where("task = 'latents'").count() == 4


def test_a_rerun_replaces_its_own_run_and_no_other(warehouse: Warehouse) -> None:
    score(warehouse, of_latents(as_of=FIRST_RUN))
    score(warehouse, of_latents(as_of=FIRST_RUN + timedelta(days=2)))
    before = warehouse.version(USER_LATENTS)
    store(Path(warehouse.path), COUNTS, task="latents", model="vae", seed=1)
    registry.crown(warehouse, "latents", 2)
    score(warehouse, of_latents(as_of=FIRST_RUN))
    assert warehouse.version(USER_LATENTS) == before + 1  # one commit: no reader sees half a run
    versions = {
        (row.as_of, row.model_version) for row in warehouse.read(USER_LATENTS).select("as_of", "model_version").distinct().collect()
    }
    assert sorted(version for _, version in versions) == [1, 2]
    assert warehouse.read(USER_LATENTS).count() == 4 + 5  # eve comes on the second day


def test_other_models_make_no_latents() -> None:
    with pytest.raises(SettingsError, match=r"gru makes no latent numbers \(tasks\.latents\.model\.name\). Use vae or mult_vae"):
        check("latents", Settings.model_validate({"tasks": {"latents": {"model": {"name": "gru"}}}}).tasks["latents"])
