"""A fitted network → a blend of it and counted models, whose small ranker learns on validation rows: the network saw none of them."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from foretaste.counting import count, learnt_from
from foretaste.feed.snapshot import divided
from foretaste.models import Blend, options_of, restored
from foretaste.settings import BlendSettings, CountedSettings
from foretaste.steps.planning import written
from foretaste.tables import Warehouse
from foretaste.tables.sequences import SEQUENCES
from foretaste.training.plan import Fitted, Plan
from foretaste.training.search import Fit

JUDGED_PART = 5  # one file in so many is set apart to judge by


@dataclass(frozen=True, kw_only=True)
class Blended:
    """model: as the registry keeps it; weights: its file; fitted: how the ranker did on the rows that were set apart for that"""

    model: dict[str, Any]
    weights: Path
    fitted: Fitted


def blend(
    warehouse: Warehouse,
    plan: Plan,
    settings: BlendSettings,
    counted: CountedSettings,
    fitted: Fitted,
    again: Fitted | None,
    fit: Fit,
    report: Callable[[str], None],
) -> Blended:
    """The ranker is fitted around the network and the counts of training time. Where the network learnt again from validation time
    too (`again`), it and counts of both times then take their places: what the ranker knows is whom to believe when.
    """
    assert plan.valid is not None
    stored = described(plan, settings, counted)
    learn, judge = divided(plan.valid, JUDGED_PART)
    folder = Path(plan.folder) / "blend"
    tensors = _tensors(warehouse, plan, stored, counted, fitted.weights, refit=False)
    start = written(folder / "start.safetensors", partial(save_file, tensors), "the blend")
    report(f"{plan.task}: a blend of {plan.model.name} with {', '.join(settings.experts)}, on validation rows")
    ranked = fit(
        replace(
            plan,
            train=learn,
            valid=judge,
            fit=settings.fit,
            blend=stored,
            start=str(start),
            tables=None,
            last_epoch=None,
            folder=str(folder),
        ),
        report,
    )
    if again is None:
        return Blended(model=stored, weights=Path(ranked.weights), fitted=ranked)
    ranker = {name: tensor for name, tensor in load_file(ranked.weights).items() if not name.startswith(("network.", "experts."))}
    tensors = _tensors(warehouse, plan, stored, counted, again.weights, refit=True) | ranker
    return Blended(model=stored, weights=written(folder / "refit.safetensors", partial(save_file, tensors), "the blend"), fitted=ranked)


def described(plan: Plan, settings: BlendSettings, counted: CountedSettings) -> dict[str, Any]:
    """What `models.restored` builds it from."""
    return {
        "name": "blend",
        "features": tuple(dict.fromkeys(("item", "gap", *plan.model.features))),
        "network": {"name": plan.model.name, **options_of(plan.model.name, plan.options)},
        "experts": dict.fromkeys(settings.experts, counted.options),
        "candidates": settings.candidates,
        "hidden": settings.hidden,
        "next_only": plan.next_only,
        "leave_out_seen": plan.leave_out_seen,
    }


def _tensors(
    warehouse: Warehouse, plan: Plan, stored: dict[str, Any], counted: CountedSettings, weights: str, *, refit: bool
) -> dict[str, Tensor]:
    """The whole blend: the network's weights, the counts, and a ranker that knows nothing yet. As large as the model itself."""
    torch.manual_seed(plan.seed)
    network = restored(stored, head=plan.head, label=plan.label, sizes=plan.sizes)
    assert isinstance(network, Blend)
    rows = learnt_from(warehouse.read(SEQUENCES, plan.train.version), refit=refit)
    tables = count(tuple(stored["experts"]), rows, plan.sizes.num_items, counted)
    counts = {f"experts.{name}.{key}": torch.from_numpy(table) for name in tables for key, table in tables[name].items()}
    learnt = {f"network.{name}": tensor for name, tensor in load_file(weights).items()}
    return {name: tensor.contiguous().clone() for name, tensor in (network.state_dict() | learnt | counts).items()}
