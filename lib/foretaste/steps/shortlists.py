"""Shortlists for a model that ranks items, from the tastes of users drawn at random; there while its users are scored."""

import uuid
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from foretaste.errors import SettingsError
from foretaste.models import MODELS, Model
from foretaste.scoring.latents import TASTES, TastesOfUsers
from foretaste.scoring.shortlists import build
from foretaste.scoring.topk import Catalogue
from foretaste.settings import ScoringSettings
from foretaste.stored_model import StoredModel
from foretaste.tables import Warehouse

LEAST_USERS = 1000
_WHERE = "scoring.shortlists"


@dataclass(frozen=True, kw_only=True)
class Listing:
    """path: of the file, None where the whole catalogue is scored all the same; note: what shortlists are worth"""

    path: str | None
    note: str


def check(settings: ScoringSettings, models: Iterable[StoredModel]) -> None:
    """SettingsError where shortlists are asked for, and a model that ranks items has no vectors of them, or a library is missing."""
    for model in models if settings.shortlists else ():
        if _ranks(model) and model.model["name"] not in MODELS:
            raise SettingsError(
                f"{model.name} is {model.model['name']}, which has no item vectors to list by",
                where=_WHERE,
                fix="Leave it out, or train a network alone: without blend.",
            )
    if settings.shortlists and find_spec("faiss") is None:
        raise SettingsError("faiss, which groups users, is not installed", where=_WHERE, fix="Install the extra `uses`, or leave it out.")


def _ranks(model: StoredModel) -> bool:
    return model.head == "items" and model.launch is None


@contextmanager
def shortlisted(
    warehouse: Warehouse,
    settings: ScoringSettings,
    sessions: DataFrame,
    histories: Callable[[DataFrame], DataFrame],
    model: StoredModel,
    closed: NDArray[np.bool_] | None,
) -> Iterator[Listing | None]:
    """None where none are asked for. histories: sessions → what the model reads; closed: (num_items,) items that nobody is to be shown

    What comes to the driver are the tastes of `users`, and the model.
    """
    wanted = settings.shortlists
    if wanted is None or not _ranks(model):
        yield None
        return
    network = model.network()
    assert isinstance(network, Model), "checked before"
    found = sessions.agg(F.approx_count_distinct("user_id")).head()
    one_in = max(1, int(found[0] if found else 0) // wanted.users)
    some = sessions.where(F.pmod(F.xxhash64("user_id", F.lit(_WHERE)), F.lit(one_in)) == 0)
    users = TastesOfUsers(root=warehouse.path, name=model.name, version=model.version, batch_size=settings.batch_size)
    rows = histories(some).mapInArrow(users, TASTES).toPandas()
    if len(rows) < LEAST_USERS:
        yield Listing(path=None, note=f"the whole catalogue is scored: {len(rows)} users with history are too few to list items by")
        return
    tastes = np.stack(rows["vector"].to_list()).astype(np.float32)
    with torch.inference_mode():
        options = wanted.model_dump(exclude={"users"})
        made, worth = build(Catalogue(*network.item_weights()), tastes, closed, k=settings.top_k, seed=0, **options)
    if made is None:
        yield Listing(path=None, note=f"the whole catalogue is scored: shortlists would be {worth.items:,} items long")
        return
    path = Path(warehouse.path) / "shortlists" / f"{uuid.uuid4().hex}.safetensors"
    made.save(path)
    try:
        yield Listing(
            path=str(path),
            note=f"shortlists of {worth.items:,} of {model.sizes.num_items:,} items for {len(made.centres):,} groups of users; they hold "
            f"{worth.recall:.2%} of the exact best {settings.top_k} of {worth.users:,} others, whose sums over all items are within "
            f"{worth.off:.1%} for 19 of 20",
        )
    finally:
        path.unlink(missing_ok=True)
