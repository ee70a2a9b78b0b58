"""Which models there are to be, and how they learn."""

from collections.abc import Mapping
from datetime import timedelta
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError, model_validator

from foretaste.settings.explaining import explain
from foretaste.settings.fields import Fact, Feature, Span, Strict


class ModelSettings(Strict):
    """Which network, and how large. What is None comes from the preset of `size` (models/presets.py); what is given wins.

    embedding:  width of the embeddings, and of a transformer
    hidden:     units of each recurrent layer, bottom first
    layers, heads, block, position: a transformer's
    latent, kl_weight, free_bits, anneal_steps: a variational model's (models/variational.py)
    adversary, adversarial_weight, gradient_weight, temperature, and latent and anneal_steps: a GAN's (models/gan.py)
    features:   the inputs, one embedding each
    facts:      numbers of the row as a whole (contract.FACTS), for a task that answers for one: churn, returns
    latents:    (elman, gru, lstm, transformer) for such a task: it also reads the numbers that task latents' model makes of the user
    tied:       items are scored by the vectors that they are read with (constrained), or by vectors of their own; the former unless
                the network's paper says otherwise
    content: (elman, gru, lstm, transformer) item vectors are made of what items are: category, brand, price, words of the name
    output_bias: a learnt number for each item beside its vector
    checkpoint_activations: less memory, and a third more time
    """

    name: str = "transformer"
    size: Literal["tiny", "base", "large"] = "base"
    embedding: int | None = Field(default=None, ge=1)
    hidden: tuple[Annotated[int, Field(ge=1)], ...] | None = Field(default=None, min_length=1)
    layers: int | None = Field(default=None, ge=1)
    heads: int | None = Field(default=None, ge=1)
    block: Literal["attention", "hstu"] | None = None
    position: Literal["learned", "rotary", "relative"] | None = None
    dropout: float | None = Field(default=None, ge=0, lt=1)
    embedding_dropout: float | None = Field(default=None, ge=0, lt=1)
    latent: int | None = Field(default=None, ge=1)
    kl_weight: float | None = Field(default=None, ge=0)
    free_bits: float | None = Field(default=None, ge=0)
    anneal_steps: int | None = Field(default=None, ge=0)
    adversary: Literal["wasserstein", "minimax"] | None = None
    adversarial_weight: float | None = Field(default=None, ge=0)
    gradient_weight: float | None = Field(default=None, ge=0)
    temperature: float | None = Field(default=None, gt=0)
    features: tuple[Feature, ...] = Field(default=("item",), min_length=1)
    facts: tuple[Fact, ...] | None = None
    latents: bool | None = None
    tied: bool | None = None
    content: bool | None = None
    output_bias: bool = True
    checkpoint_activations: bool | None = None


class NegativeSettings(Strict):
    """Items that stand for all others: `number` draws a step, shared by its targets, from P(item) ∝ count^exponent.

    exponent: 0 is uniform, 1 is popularity; 1 unless given, 0 for gbce
    """

    number: int = Field(ge=1)
    exponent: float | None = Field(default=None, ge=0, le=2)


class LossSettings(Strict):
    """What a model for items minimises: cross_entropy over the full catalogue, or, for catalogues of millions, a loss with negatives.

    log_q: (sampled_softmax) corrected for how likely each item was drawn; label_smoothing: (cross_entropy)
    score_penalty: (bpr_max) on the negatives' scores; calibration: (gbce) the paper's t, 0 for plain binary cross-entropy
    """

    name: Literal["cross_entropy", "sampled_softmax", "bpr_max", "gbce"] = "cross_entropy"
    negatives: NegativeSettings | None = None
    log_q: bool = True
    label_smoothing: float = Field(default=0.0, ge=0, lt=1)
    score_penalty: float = Field(default=1.0, ge=0)
    calibration: float = Field(default=0.75, ge=0, le=1)

    @model_validator(mode="after")
    def _fit_together(self) -> "LossSettings":
        if self.name == "cross_entropy" and self.negatives:
            raise ValueError("cross_entropy is over the full catalogue; leave negatives out, or set name to sampled_softmax")
        if self.name != "cross_entropy" and not self.negatives:
            raise ValueError(f"{self.name} needs negatives, such as negatives: {{number: 512}}")
        owners = {"log_q": "sampled_softmax", "label_smoothing": "cross_entropy", "score_penalty": "bpr_max", "calibration": "gbce"}
        for key, owner in owners.items():
            if getattr(self, key) != type(self).model_fields[key].default and self.name != owner:
                raise ValueError(f"{key} belongs to {owner}, and name is {self.name}")
        if self.name == "gbce" and self.negatives and self.negatives.exponent:
            raise ValueError("gbce is made for uniform negatives; set negatives.exponent to 0")
        return self

    @property
    def objective(self) -> dict[str, Any]:
        """The fields of models.Objective."""
        exponent = self.negatives.exponent if self.negatives else None
        return {
            **self.model_dump(exclude={"negatives"}),
            "draws": self.negatives.number if self.negatives else 0,
            "exponent": exponent if exponent is not None else float(self.name != "gbce"),
        }


Probability = Annotated[float, Field(ge=0, le=1)]


class AugmentSettings(Strict):
    """How likely training rows are changed, each epoch anew: crop and reorder by row, mask and substitute by event.

    crop: forget the oldest events, from none to all but one; mask: an item becomes unknown
    reorder: a stretch of up to a third of the row is shuffled; substitute: by an item that often comes with it
    gan, vae: for each real row so many that such a model wrote (synthetic_sequences), if they pass the gate (steps/augmentation.py):
    the task is fitted with and without them, `seeds` times each, and validation decides
    of: the warehouse whose rows are taken, another's than this one's where its histories may not be read, but rows that a model wrote may
    """

    crop: Probability = 0.0
    mask: Probability = 0.0
    reorder: Probability = 0.0
    substitute: Probability = 0.0
    gan: float = Field(default=0.0, ge=0, le=10)
    vae: float = Field(default=0.0, ge=0, le=10)
    seeds: int = Field(default=1, ge=1, le=20)
    of: str | None = None

    @property
    def written(self) -> dict[str, float]:
        """The kinds of models whose rows are asked for, and how many for each real row."""
        return {kind: share for kind, share in (("gan", self.gan), ("vae", self.vae)) if share > 0}

    @property
    def changes(self) -> bool:
        """Whether real rows are changed."""
        return any((self.crop, self.mask, self.reorder, self.substitute))


class PrivateSettings(Strict):
    """Differential privacy of single rows (training/private.py): all epochs together keep to (epsilon, delta); clip: of a row's gradient.

    Not covered are the vocabulary and its counts, a task's base rate and medians, the training loss in the history, and what validation
    rows decide: when to stop, and calibration.
    """

    epsilon: float = Field(gt=0)
    delta: float = Field(default=1e-6, gt=0, lt=1)
    clip: float = Field(default=1.0, gt=0)


class FitSettings(Strict):
    """How a model learns. `batch_size` is the global batch: every launcher and rank count gives the same steps.

    schedule:     the learning rate after `warmup_steps`: constant, or a cosine that falls to a twentieth at the last of `epochs`
    weight_decay: L2, l1: both are taken off the weights beside the gradient's step, times the learning rate; biases are left alone
    precision:    auto is bf16 on a GPU and float32 on a CPU
    average:      decay of a moving average of the weights, which is then what is judged and kept
    start_at_line: a model that answers for a user starts at a logistic regression on its facts, which Spark fits, and learns from there
    """

    epochs: int = Field(default=40, ge=1, description="at most: `patience` ends it before")
    batch_size: int = Field(default=128, ge=1)
    learning_rate: float = Field(default=1e-3, gt=0)
    schedule: Literal["constant", "cosine"] = "constant"
    warmup_steps: int = Field(default=0, ge=0)
    loss: LossSettings = LossSettings()
    augment: AugmentSettings = AugmentSettings()
    weight_decay: float = Field(default=0.0, ge=0)
    l1: float = Field(default=0.0, ge=0)
    clip_norm: float | None = Field(default=5.0, gt=0)
    average: float | None = Field(default=None, gt=0, lt=1)
    start_at_line: bool = False
    precision: Literal["auto", "float32", "bf16"] = "auto"
    patience: int = Field(default=4, ge=1, description="epochs without a better validation metric before it stops")
    max_steps: int | None = Field(default=None, ge=1, description="steps an epoch, at most")
    private: PrivateSettings | None = None

    @model_validator(mode="after")
    def _nothing_beside_the_noise(self) -> "FitSettings":
        if self.private is None:
            return self
        leaks = {
            "start_at_line": self.start_at_line,
            "loss.negatives": self.loss.negatives is not None,
            "augment.substitute": self.augment.substitute > 0,
            "augment.gan and augment.vae": bool(self.augment.written),
        }
        for key, is_asked in leaks.items():
            if is_asked:
                raise ValueError(f"private: {key} learns from rows without noise; leave it out, or leave out private")
        return self


class SearchSettings(Strict):
    """A small search by validation before the fit: `trials` settings, each a choice from every list of `over`, fit for `epochs`;
    then the better half for twice as long, and so on, until one is left.

    over: a key of the task's own settings, such as model.dropout or fit.learning_rate → the values to choose from
    """

    trials: int = Field(ge=2, le=1000)
    epochs: int = Field(default=2, ge=1)
    over: dict[str, tuple[Any, ...]] = Field(min_length=1)


Baseline = Literal["popularity", "recent_popularity", "own_items", "markov", "rules", "item_knn", "vsknn", "stan"]


class CountedSettings(Strict):
    """Models that are counted, not learnt: popularity, recent_popularity, own_items, markov, rules, item_knn, vsknn, stan.

    smoothing: the share of popularity in their probabilities, which orders what was never counted; 0 leaves that tied, as published
    keep:      neighbours of an item; recent: the days of recent_popularity
    own_decay: own_items: what an event counts for, of the one after it
    steps:     rules: how many events apart
    k, sample: vsknn, stan: the most similar k of the `sample` most recent sessions that share an item, out of `max_sessions` in memory
    stan_history, stan_recency, stan_place: after so many events, such a time and so many places something counts for 1/e
    """

    smoothing: float = Field(default=1e-3, ge=0, lt=1)
    keep: int = Field(default=500, ge=1)
    recent: Span = timedelta(days=7)
    own_decay: float = Field(default=1.0, gt=0, le=1)
    steps: int = Field(default=15, ge=1)
    k: int = Field(default=500, ge=1)
    sample: int = Field(default=5000, ge=1)
    max_sessions: int = Field(default=200_000, ge=1)
    stan_history: float = Field(default=1.0, gt=0)
    stan_recency: Span = timedelta(days=30)
    stan_place: float = Field(default=4.0, gt=0)

    @property
    def options(self) -> dict[str, float]:
        """The fields of models.Options: what they score with."""
        names = ("smoothing", "own_decay", "k", "sample", "stan_history", "stan_place")
        return {name: getattr(self, name) for name in names} | {"stan_recency": self.stan_recency / timedelta(days=1)}


class BlendSettings(Strict):
    """The network together with counted models: a small ranker learns on validation rows whom to believe when (models/blend.py).

    experts: counted as the task's `counted` says; candidates: items ranked anew, a row; hidden: the ranker's units; fit: how it learns
    """

    experts: tuple[Baseline, ...] = Field(default=("markov", "rules", "item_knn", "vsknn", "own_items"), min_length=1)
    candidates: int = Field(default=100, ge=2)
    hidden: int = Field(default=32, ge=1)
    fit: FitSettings = FitSettings(epochs=4, batch_size=128, learning_rate=0.01, weight_decay=1e-3, schedule="cosine")


class TaskSettings(Strict):
    """One model to train: for a task of `tasks`. `counted`: how, where model.name is one that is counted.

    within: so many whole days in which nobody comes back (churn), somebody answers (campaign), comes (uplift) or buys it (new_item);
    sequences.horizon unless given
    """

    model: ModelSettings = ModelSettings()
    fit: FitSettings = FitSettings()
    search: SearchSettings | None = None
    counted: CountedSettings = CountedSettings()
    blend: BlendSettings | None = None
    within: Span | None = None

    @model_validator(mode="after")
    def _whole_days(self) -> "TaskSettings":
        if self.within is not None and (self.within % timedelta(days=1) or self.within > timedelta(days=366)):
            raise ValueError("within is not a number of whole days, a year of them at most")
        return self

    @model_validator(mode="after")
    def _one_fit_is_accounted(self) -> "TaskSettings":
        several = {"search": self.search, "blend": self.blend, "model.latents": self.model.latents}
        for key, asked in several.items():
            if asked and (self.fit.private or (self.blend and self.blend.fit.private)):
                raise ValueError(f"fit.private: {key} learns from the same rows beside it, without an account; leave it out")
        return self

    @model_validator(mode="after")
    def _every_value_can_be(self) -> "TaskSettings":
        for key, values in (self.search.over if self.search else {}).items():
            if not values:
                raise ValueError(f"search.over.{key} has no value to try")
            for value in values:
                try:
                    self.altered({key: value})
                except ValidationError as error:
                    raise ValueError(f"search.over.{key}: {explain(error, TaskSettings)}") from None
        return self

    def altered(self, changes: Mapping[str, Any]) -> "TaskSettings":
        """These settings, without a search, with other values for keys such as fit.learning_rate."""
        tree = self.model_dump(exclude={"search"}, exclude_unset=True)
        for key, value in changes.items():
            *parents, leaf = key.split(".")
            group = tree
            for parent in parents:
                group = group.setdefault(parent, {})
                if not isinstance(group, dict):
                    raise ValueError(f"search.over.{key}: {parent} is a value, not a group of settings")
            group[leaf] = value
        return TaskSettings.model_validate(tree)


class SharedSettings(Strict):
    """Several tasks on one encoder, fitted together; a task takes it where validation is the better for it, and else its own model.

    weights: task → what its learning rate is multiplied with: how much it counts for
    model, fit: of them all; facts are each task's own. A step reads `fit.batch_size` rows of each task whose turn it is: each reads its
    rows once an epoch
    """

    weights: dict[str, Annotated[float, Field(gt=0, le=100)]] = Field(min_length=2)
    model: ModelSettings = ModelSettings(name="gru")
    fit: FitSettings = FitSettings()

    @model_validator(mode="after")
    def _is_everybodys(self) -> "SharedSettings":
        if self.model.facts is not None or self.model.latents:
            raise ValueError(f"model.{'latents' if self.model.latents else 'facts'}: no two tasks read the same; leave it out here")
        if self.fit.augment.written:
            raise ValueError("fit.augment: written rows have no labels, so only a task by itself can use them; leave them out here")
        return self


class TrainingSettings(Strict):
    """How training is run: `launcher` starts `workers` ranks, each with `threads` CPU threads.

    own_cores: each rank keeps to cores of its own: ranks wait less for one another, on a machine that nobody else uses
    max_restarts: how often lost ranks are started again, from the last checkpoint, and fewer of them where a machine is gone for good
    start_timeout: until all ranks are there; stall_timeout: a rank that waits longer (for rows, for others), or computes, counts as lost
    """

    launcher: Literal["spark", "horovodrun", "single"] = "single"
    workers: int = Field(default=1, ge=1)
    threads: int | None = Field(default=None, ge=1)
    own_cores: bool = False
    seed: int = 0
    resume: bool = True
    max_restarts: int = Field(default=2, ge=0)
    start_timeout: Span = timedelta(minutes=5)
    stall_timeout: Span = timedelta(minutes=10)
    network_interface: str | None = None

    @model_validator(mode="after")
    def _single_is_one(self) -> "TrainingSettings":
        if self.launcher == "single" and self.workers > 1:
            raise ValueError("launcher single is one process; set launcher to spark or horovodrun for more workers")
        return self
