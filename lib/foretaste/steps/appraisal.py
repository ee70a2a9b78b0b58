"""What written rows are worth, in words and as metrics: quality, privacy, whether wishes are heeded, what can be learnt from them."""

from collections.abc import Iterator, Mapping
from datetime import datetime

import numpy as np
import torch
from numpy.typing import NDArray
from pyspark.sql import DataFrame
from torch import Tensor

from foretaste.contract import PAD, Batch
from foretaste.evaluation.comparison import aligned
from foretaste.evaluation.heeding import Heeded, heeded
from foretaste.models import GAN, chance
from foretaste.models.conditions import conditions_of
from foretaste.models.rows import left_aligned
from foretaste.settings import Settings
from foretaste.steps import likeness
from foretaste.steps.likeness import Figure, Sets
from foretaste.stored_model import StoredModel
from foretaste.tables import Warehouse, metrics
from foretaste.tables.metrics import METRICS, Measurement
from foretaste.tables.sequences import SEQUENCES

HEEDED = 1000  # rows, at most, whose wishes are tried


def appraised(warehouse: Warehouse, settings: Settings, model: StoredModel, whole: Sets, run_at: datetime) -> list[str]:
    """The reports, as lines; their figures go into `metrics`. whole: all rows that there are of each kind"""
    seed, network = settings.synthesis.seed, model.network()
    few = whole.of_size(settings.synthesis.report, seed).persist()
    try:
        good = likeness.quality(whole, few, model.sizes, seed)
        private = likeness.privacy(whole, few, seed, _words(network, few) if isinstance(network, GAN) else None)
        num_asked, wishes = _heeded(network, few.apart, seed) if isinstance(network, GAN) else (0, {})
    finally:
        few.unpersist()
    judged = warehouse.read(SEQUENCES, model.tables[SEQUENCES.name])
    taught = likeness.taught(warehouse, settings, whole, judged, model.sizes)
    measured = [*_measurements(model, "quality", good), *_measurements(model, "privacy", private)]
    lines = ["quality: the rows beside real ones of users that the model never heard of; real ones beside them, too"]
    lines += [f"  {line}" for line in likeness.table(good)]
    lines += ["privacy: how near they come to rows that the model learnt from, as real rows of other users do"]
    lines += [f"  {line}" for line in likeness.table(private)]
    if wishes:
        lines += [f"asked for what {num_asked:,} real rows of such users hold, one wish at a time: the share of rows that hold it"]
        told = [[name, f"{share.asked:.4f}", f"{share.unasked:.4f}"] for name, share in wishes.items()]
        lines += [f"  {line}" for line in aligned([["", "asked", "not asked"], *told])]
        measured += [
            Measurement(
                task=model.task, model=side, model_version=model.version, split="train", segment="heeded", metric=f"heeded({name})",
                value=getattr(share, side), low=float("nan"), high=float("nan"), num_rows=num_asked,
            )
            for name, share in wishes.items()
            for side in ("asked", "unasked")
        ]  # fmt: skip
    if taught:
        lines += ["trained on synthetic rows, tested on real validation rows", *(f"  {line}" for line in taught.table())]
        measured += [
            Measurement(
                task=model.task, model=scorer, model_version=None, split="valid", segment="taught", metric=metric,
                value=estimate.value, low=estimate.low, high=estimate.high, num_rows=taught.num_rows,
            )
            for scorer, metric, estimate in taught.estimates()
        ]  # fmt: skip
    warehouse.append(METRICS, metrics.build(warehouse.spark, run_at, measured))
    return lines


def _measurements(model: StoredModel, segment: str, figures: list[Figure]) -> list[Measurement]:
    return [
        Measurement(
            task=model.task, model=name, model_version=model.version, split="train", segment=segment, metric=figure.name,
            value=estimate.value, low=estimate.low, high=estimate.high, num_rows=0,
        )
        for figure in figures
        for name, estimate in (("synthetic", figure.synthetic), ("real", figure.real))
        if estimate is not None
    ]  # fmt: skip


@torch.inference_mode()
def _words(network: GAN, few: Sets) -> dict[str, NDArray[np.float64]]:
    """What the discriminator says of rows that it learnt from, and of those that it never saw."""

    def of(rows: DataFrame) -> NDArray[np.float64]:
        said = []
        for part in _batches(network, rows):
            asked = conditions_of(part, network.category_of_item, network.popularity)
            said.append(network.discriminator(network.discriminator.read(part.features), part.length, asked))
        words: NDArray[np.float64] = torch.cat(said).double().numpy()
        return words

    return {name: of(getattr(few, name)) for name in ("learnt", "apart")}


def _heeded(network: GAN, rows: DataFrame, seed: int) -> tuple[int, Mapping[str, Heeded]]:
    """How many of these rows were tried, and whether it heeds what they would have been asked for."""
    part = next(_batches(network, rows.limit(HEEDED), size=HEEDED))
    asked = conditions_of(part, network.category_of_item, network.popularity)
    return len(part.length), heeded(network, asked, chance.fingerprint(torch.arange(len(part.length))[:, None] + seed))


def _batches(network: GAN, rows: DataFrame, size: int = 512) -> Iterator[Batch[Tensor]]:
    """A bounded sample as what the network reads, left-aligned, so many rows at a time."""
    found = likeness.sample(rows, tuple(network.embeddings))
    length = torch.from_numpy((found["item"] != PAD).sum(1).astype(np.int32))
    batch = Batch(features={name: torch.from_numpy(codes) for name, codes in found.items()}, length=length, fresh=length, recency=length)
    for start in range(0, len(length), size):
        yield left_aligned(batch.map(lambda array, start=start: array[start : start + size]))  # type: ignore[misc]
