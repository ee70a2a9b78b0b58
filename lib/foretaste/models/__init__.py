"""The networks, a file each: torch and `contract` only, written for one device. A model is added by its file and its line in MODELS."""

from collections.abc import Mapping
from typing import Any

from foretaste.contract import FIRST_INDEX, Sizes
from foretaste.errors import ModelError
from foretaste.models.blend import Blend
from foretaste.models.conditions import Conditions
from foretaste.models.counted import Counted, Options
from foretaste.models.deepar import DeepAR
from foretaste.models.gan import GAN
from foretaste.models.losses import Loss, Objective
from foretaste.models.model import Model
from foretaste.models.mult_vae import MultVAE
from foretaste.models.neighbours import STAN, VSkNN
from foretaste.models.own_items import OwnItems
from foretaste.models.popularity import Popularity, RecentPopularity
from foretaste.models.presets import resolved
from foretaste.models.rnn import GRU, LSTM, Elman
from foretaste.models.shared import Shared, of_task
from foretaste.models.transformer import Transformer
from foretaste.models.transitions import Transitions
from foretaste.models.vae import VAE
from foretaste.models.variational import Variational

MODELS: dict[str, type[Model]] = {
    "elman": Elman,
    "lstm": LSTM,
    "gru": GRU,
    "transformer": Transformer,
    "vae": VAE,
    "mult_vae": MultVAE,
    "gan": GAN,
    "deepar": DeepAR,
}
COUNTED: dict[str, type[Counted]] = {
    "popularity": Popularity,
    "recent_popularity": RecentPopularity,
    "own_items": OwnItems,
    "markov": Transitions,
    "rules": Transitions,
    "item_knn": Transitions,
    "vsknn": VSkNN,
    "stan": STAN,
}


def options_of(name: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """All options of that model: its size's preset with the given ones on top; ModelError for a name or an option that it does not know."""
    if name not in MODELS:
        raise ModelError(f"no model is called {name!r}", where="model.name", fix=f"Use one of {', '.join(MODELS)}.")
    return resolved(name, MODELS[name].presets, options)


def build(name: str, *, head: str, label: str, sizes: Sizes, objective: Objective | None = None, **options: Any) -> Model:
    """The model of that name, freshly initialised from torch's seed. `options` are the other fields of ModelSettings.

    objective: how an items head learns; not needed to score. An option `latents` is what the model whose numbers it reads is built from.
    """
    chosen = options_of(name, options)
    latents = chosen.pop("latents", None)
    if latents:
        chosen["reader"] = build(**latents, head="items", label="", sizes=sizes)
    if head == "items" and sizes.num_items <= FIRST_INDEX:
        raise ModelError("the vocabulary holds no item to predict", where="vocabulary", fix="Lower sequences.min_item_count.")
    return MODELS[name](head=head, label=label, sizes=sizes, objective=objective or Objective(), **chosen)


def build_counted(name: str, *, head: str, sizes: Sizes, **options: Any) -> Counted:
    """The counted model of that name, its tables still empty. `options` are the fields of Options."""
    if head != "items":
        raise ModelError(f"{name} ranks items and answers nothing else", where="model.name", fix=f"Use one of {', '.join(MODELS)}.")
    return COUNTED[name](sizes=sizes, options=Options(**options))


def restored(stored: Mapping[str, Any], *, head: str, label: str, sizes: Sizes) -> Model | Counted | Blend:
    """The model that `stored` names, with its options, still without its weights or tables."""
    if stored["name"] in COUNTED:
        options = {key: value for key, value in stored.items() if key not in ("name", "features")}
        return build_counted(stored["name"], head=head, sizes=sizes, **options)
    if stored["name"] == "blend":
        parts = ("name", "features", "network", "experts")
        return Blend(
            label=label,
            network=build(**stored["network"], head=head, label=label, sizes=sizes),
            experts={name: build_counted(name, head=head, sizes=sizes, **options) for name, options in stored["experts"].items()},
            **{key: value for key, value in stored.items() if key not in parts},
        )
    return build(**stored, head=head, label=label, sizes=sizes)


__all__ = [
    "COUNTED",
    "GAN",
    "MODELS",
    "Blend",
    "Conditions",
    "Counted",
    "DeepAR",
    "Loss",
    "Model",
    "Objective",
    "Shared",
    "Variational",
    "build",
    "build_counted",
    "of_task",
    "options_of",
    "restored",
]
