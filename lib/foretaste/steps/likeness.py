"""How written rows compare with real ones: are they like them (quality), and do they give somebody away (privacy)?

The model that wrote them learnt from `learnt` rows; of `apart` users, one in five, it never heard. What can be expected of rows that are
neither good nor bad is what `learnt` rows are to those set apart: each figure stands beside that one. Nothing that grows with the data
comes to the driver but samples of bounded size.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from foretaste.contract import FEATURES, Sizes
from foretaste.counting.marginals import apart as distances
from foretaste.counting.marginals import distinct_share, out_of_range
from foretaste.counting.nearest import copies, nearest
from foretaste.evaluation.baselines import CountedBaseline
from foretaste.evaluation.bootstrap import Estimate
from foretaste.evaluation.comparison import Comparison, aligned
from foretaste.evaluation.passes import Pass
from foretaste.evaluation.segments import ALL
from foretaste.evaluation.two_sample import area, separability
from foretaste.models import COUNTED
from foretaste.scoring.scorer import rows_at_once
from foretaste.settings import Settings
from foretaste.steps.count import counted
from foretaste.steps.judging import judge_of, judged_rows, run
from foretaste.tables import Warehouse
from foretaste.tasks import TASKS

LEAST_EVENTS = 5  # shorter rows are copied by chance
TAUGHT = "rules"  # the counted model that learns from written rows, and from as many real ones


@dataclass(frozen=True, kw_only=True)
class Figure:
    """One number of the report: of the written rows, and beside it what real ones come to (None where there is no such thing)."""

    name: str
    synthetic: Estimate
    real: Estimate | None


@dataclass(frozen=True, kw_only=True)
class Sets:
    """synthetic: what was written; learnt: the real rows that the model learnt from; apart: real rows of users that it never heard of"""

    synthetic: DataFrame
    learnt: DataFrame
    apart: DataFrame

    def of_size(self, rows: int, seed: int) -> "Sets":
        """As many rows of each, the same ones each time: distances between counts depend on how many are counted."""
        fewest = min(rows, *(side.count() for side in (self.synthetic, self.learnt, self.apart)))

        def sample(side: DataFrame) -> DataFrame:
            return side.orderBy(F.xxhash64(F.lit(seed), "user_id", "as_of")).limit(fewest)

        return Sets(synthetic=sample(self.synthetic), learnt=sample(self.learnt), apart=sample(self.apart))

    def persist(self) -> "Sets":
        return Sets(synthetic=self.synthetic.persist(), learnt=self.learnt.persist(), apart=self.apart.persist())

    def unpersist(self) -> None:
        for side in (self.synthetic, self.learnt, self.apart):
            side.unpersist()


def quality(whole: Sets, few: Sets, sizes: Sizes, seed: int) -> list[Figure]:
    """How far written rows are from real ones that the model never saw; beside it, how far real ones are. few: as many of each"""
    theirs, ours = distances(few.synthetic, few.apart), distances(few.learnt, few.apart)
    figures = [
        Figure(name=f"{kind}({measure})", synthetic=_known(getattr(apart, kind)), real=_known(getattr(ours[measure], kind)))
        for kind in ("total_variation", "jensen_shannon")
        for measure, apart in theirs.items()
        if measure in ours
    ]
    samples = {name: _arrays(getattr(few, name)) for name in ("synthetic", "learnt", "apart")}
    figures.append(
        Figure(
            name="two_sample_auc",
            synthetic=separability(samples["synthetic"], samples["apart"], seed),
            real=separability(samples["learnt"], samples["apart"], seed),
        )
    )
    codes = {name: sizes.of(name) for name in FEATURES}
    return [
        *figures,
        Figure(name="distinct_share", synthetic=_known(distinct_share(few.synthetic)), real=_known(distinct_share(few.learnt))),
        Figure(
            name="out_of_range",
            synthetic=_known(out_of_range(whole.synthetic, codes)),
            real=_known(out_of_range(few.learnt, codes)),
        ),
    ]


def privacy(whole: Sets, few: Sets, seed: int, words: Mapping[str, NDArray[np.float64]] | None) -> list[Figure]:
    """Exact copies; how near written rows come to learnt ones, beside how near rows come of users that were set apart; and two attacks that
    guess whether the model learnt from a row: by the nearest written one, and by the discriminator's word (Hayes et al. 2019, LOGAN).

    words: `learnt` and `apart` → (n,) what the discriminator says of those samples, where there is one
    """
    samples = {name: _arrays(getattr(few, name))["item"] for name in ("synthetic", "learnt", "apart")}
    of_synthetic, of_apart = (nearest(samples[name], whole.learnt) for name in ("synthetic", "apart"))
    near = float(np.percentile(of_apart, 5))
    figures = [Figure(name="copied_share", synthetic=_copied(whole.synthetic, whole.learnt), real=_copied(whole.apart, whole.learnt))]
    figures += [
        Figure(name=f"nearest_distance({name})", synthetic=_known(float(of(of_synthetic))), real=_known(float(of(of_apart))))
        for name, of in (("median", np.median), ("5th percentile", partial(np.percentile, q=5)))
    ]
    figures.append(
        Figure(
            name="nearer_than_real_5%", synthetic=_known(float((of_synthetic < near).mean())), real=_known(float((of_apart < near).mean()))
        )
    )
    near_written = {name: -nearest(samples[name], whole.synthetic) for name in ("learnt", "apart")}
    figures.append(Figure(name="membership_auc(nearest)", synthetic=_attack(near_written, seed), real=None))
    if words:
        figures.append(Figure(name="membership_auc(discriminator)", synthetic=_attack(words, seed), real=None))
    return figures


def taught(warehouse: Warehouse, settings: Settings, whole: Sets, judged: DataFrame, sizes: Sizes) -> Comparison | None:
    """Trained on synthetic rows and tested on real validation rows, beside the same model trained on as many real ones."""
    task = TASKS[settings.synthesis.task]
    rows = min(whole.synthetic.count(), whole.learnt.count())
    of = settings.evaluation.counted
    with (
        counted(warehouse.path, [TAUGHT], whole.synthetic.limit(rows), sizes, of) as by_written,
        counted(warehouse.path, [TAUGHT], whole.learnt.limit(rows), sizes, of) as by_real,
    ):
        judge = judge_of(settings, task)
        judging = Pass(
            judge=judge,
            label=task.label.name,
            model=f"{TAUGHT} of {rows:,} synthetic rows",
            load_model=partial(_itself, by_written[TAUGHT]),
            baselines={f"{TAUGHT} of {rows:,} real rows": by_real[TAUGHT]},
            replicates=settings.evaluation.bootstrap,
            seed=settings.evaluation.seed,
            batch_size=min(settings.scoring.batch_size, rows_at_once(sizes.num_items)),
            num_items=sizes.num_items,
        )
        found = run(judging, judged_rows(judged, settings, task, COUNTED[TAUGHT].features, ("valid",)))
    if ("valid", ALL, judging.model) not in found:
        return None
    return Comparison(
        task=task.name,
        split="valid",
        model=judging.model,
        scorers={name: found["valid", ALL, name] for name in (judging.model, *judging.baselines)},
        headline=judge.headline,
        lower_is_better=judge.lower_is_better,
        shown=judge.shown,
    )


def table(figures: Iterable[Figure]) -> list[str]:
    """Lines: each figure of the written rows, and what real ones come to."""
    return aligned([["", "synthetic", "real"], *([figure.name, _shown(figure.synthetic), _shown(figure.real)] for figure in figures)])


def sample(rows: DataFrame, columns: Iterable[str]) -> dict[str, NDArray[np.int32]]:
    """Columns of a bounded sample, in the order of its rows' hashes."""
    found = rows.select(*columns).toPandas()
    return {name: np.stack(found[name].to_list()).astype(np.int32) for name in columns}


def _arrays(rows: DataFrame) -> dict[str, NDArray[np.int32]]:
    return sample(rows, FEATURES)


def _copied(rows: DataFrame, originals: DataFrame) -> Estimate:
    same, total = copies(rows, originals, LEAST_EVENTS)
    return _known(same / max(1, total))


def _attack(guess: Mapping[str, NDArray[np.float64]], seed: int) -> Estimate:
    label = np.repeat([1, 0], [len(guess["learnt"]), len(guess["apart"])])
    return area(label, np.concatenate([guess["learnt"], guess["apart"]]), seed)


def _known(value: float) -> Estimate:
    return Estimate(value=float(value), low=float("nan"), high=float("nan"))


def _shown(estimate: Estimate | None) -> str:
    if estimate is None:
        return ""
    interval = f" [{estimate.low:.4f}, {estimate.high:.4f}]" if np.isfinite(estimate.low) else ""
    return f"{estimate.value:.4f}{interval}"


def _itself(model: CountedBaseline) -> CountedBaseline:
    return model
