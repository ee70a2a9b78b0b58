"""What each size of a network is, and what of a model's settings belongs to which network. Explicit settings win over presets."""

from collections.abc import Mapping
from typing import Any

from foretaste.errors import ModelError

Presets = Mapping[str, Mapping[str, Any]]

COMMON: Mapping[str, Any] = {"features": ("item",), "facts": (), "tied": True, "output_bias": True}

# embedding_dropout None is the same as dropout.
_KEPT: Mapping[str, Any] = {"embedding_dropout": None, "checkpoint_activations": False}
_COMPUTED_AGAIN: Mapping[str, Any] = {"embedding_dropout": None, "checkpoint_activations": True}
_OWN_VECTORS: Mapping[str, Any] = {"content": False, "latents": None}

RECURRENT: Presets = {
    "tiny": {"embedding": 32, "hidden": (32,), "dropout": 0.2, **_KEPT, **_OWN_VECTORS},
    "base": {"embedding": 128, "hidden": (128,), "dropout": 0.3, **_KEPT, **_OWN_VECTORS},
    "large": {"embedding": 256, "hidden": (512, 512), "dropout": 0.3, **_COMPUTED_AGAIN, **_OWN_VECTORS},
}

_RELATIVE = {"block": "attention", "position": "relative"}
TRANSFORMER: Presets = {
    "tiny": {"embedding": 32, "layers": 1, "heads": 1, "dropout": 0.2, **_RELATIVE, **_KEPT, **_OWN_VECTORS},
    "base": {"embedding": 128, "layers": 2, "heads": 2, "dropout": 0.5, **_RELATIVE, **_KEPT, **_OWN_VECTORS},
    "large": {"embedding": 512, "layers": 8, "heads": 8, "dropout": 0.2, **_RELATIVE, **_COMPUTED_AGAIN, **_OWN_VECTORS},
}

_ELBO = {"latent": 16, "kl_weight": 0.2, "free_bits": 0.0, "anneal_steps": 2000}
VARIATIONAL: Presets = {
    "tiny": {"embedding": 32, "hidden": (32,), "dropout": 0.2, **_ELBO, **_KEPT},
    "base": {"embedding": 128, "hidden": (128,), "dropout": 0.3, **_ELBO, **_KEPT},
    "large": {"embedding": 256, "hidden": (512, 512), "dropout": 0.3, **_ELBO, "latent": 64, **_COMPUTED_AGAIN},
}
BAG: Presets = {
    size: {"hidden": (hidden,), "dropout": 0.5, **_ELBO, "latent": latent, "tied": False}
    for size, hidden, latent in (("tiny", 64, 16), ("base", 256, 64), ("large", 600, 200))
}

_PLAYED = {"adversary": "wasserstein", "adversarial_weight": 1.0, "gradient_weight": 10.0, "temperature": 1.0, "anneal_steps": 500}
ADVERSARIAL: Presets = {
    "tiny": {"embedding": 32, "hidden": (32,), "dropout": 0.0, "latent": 16, **_PLAYED},
    "base": {"embedding": 128, "hidden": (128,), "dropout": 0.3, "latent": 32, **_PLAYED},
    "large": {"embedding": 256, "hidden": (512, 512), "dropout": 0.3, "latent": 64, **_PLAYED},
}


DAYS: Presets = {
    "tiny": {"embedding": 4, "hidden": (16,), "dropout": 0.0},
    "base": {"embedding": 6, "hidden": (40,), "dropout": 0.1},
    "large": {"embedding": 8, "hidden": (128, 128), "dropout": 0.2},
}


def resolved(name: str, presets: Presets, options: Mapping[str, Any]) -> dict[str, Any]:
    """All options of that network: its preset for `size` (base unless given), with the given ones that are not None on top.

    Lists become tuples. ModelError for a size that it does not have and for an option that is not its own.
    """
    given = {key: tuple(value) if isinstance(value, list) else value for key, value in options.items() if value is not None}
    size = str(given.pop("size", "base"))
    if size not in presets:
        raise ModelError(f"{name} has no size {size!r}", where="model.size", fix=f"Use one of {', '.join(presets)}.")
    own = {**COMMON, **presets[size]}
    for key in given:
        if key not in own:
            raise ModelError(f"{name} has no setting {key}", where=f"model.{key}", fix=f"Leave it out; it has {', '.join(own)}.")
    return {**own, **given}
