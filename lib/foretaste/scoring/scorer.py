"""A stored model that answers for many users at once. numpy and torch, no Spark: the trainer, the UDF and a plain process share it."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from foretaste.contract import FIRST_INDEX, Batch
from foretaste.errors import ModelError
from foretaste.models import Blend, Counted, Model, Variational
from foretaste.scoring.filters import Best, LeftOut, varied
from foretaste.scoring.shortlists import Shortlists
from foretaste.scoring.topk import Catalogue, best_of
from foretaste.stored_model import StoredModel

OfTargets = Callable[[Batch[NDArray[Any]]], NDArray[np.float64]]
REASONED_EVENTS = 64
LOWEST = -1e3  # of a target's score: an item that nobody ever came with has the probability 0
MOST_SCORES = 1 << 24  # held at once where every item of every row gets a score: 64 MB


class ModelScorer:
    """Scores batches of one row or more, `batch_size` users at a time: memory is bounded by that, whatever the batch and the catalogue.

    A model with `item_weights` goes through its catalogue in blocks; any other scores all items of a few rows at once.
    """

    def __init__(self, stored: StoredModel, batch_size: int, *, judged: bool = False) -> None:
        """judged: as the model was when validation rows had taught it nothing"""
        self.stored = stored
        self.network = stored.network(judged=judged)
        self.catalogue: Catalogue | None = None
        if stored.head == "items" and isinstance(self.network, Model):
            with torch.inference_mode():
                self.catalogue = Catalogue(*self.network.item_weights())
        self.batch_size = batch_size if self.catalogue else min(batch_size, rows_at_once(stored.sizes.num_items))

    def score(self, batch: Batch[Tensor]) -> Tensor:
        """(B, num_items) logits, PAD and UNKNOWN at -inf; or the (B,) calibrated logits of a binary model. As evaluation wants them."""
        scores = self.network.score(batch)
        calibration = self.stored.calibration
        return scores if calibration is None else scores.double() * calibration["slope"] + calibration["intercept"]

    def paths(self, batch: Batch[NDArray[Any]]) -> NDArray[np.float64]:
        """(n, S, H) of a model of counts: units on each day, of paths that may come, all as likely."""
        if self.stored.head != "counts":
            raise ModelError("this model foretells no units", where=self.where, fix="Ask for its score.")
        with torch.inference_mode():
            found: NDArray[np.float64] = torch.cat([self.network.score(part) for part in self._parts(batch)]).numpy()
        self._refuse_nan(found)
        return found

    def survival(self, batch: Batch[Tensor]) -> Tensor:
        """(B, days): the chance that nobody comes up to and on each day, as the network says it, not calibrated."""
        assert isinstance(self.network, Model)
        return self.network.survival(batch)

    def top_k(
        self, batch: Batch[NDArray[Any]], k: int, left_out: LeftOut | None = None, shortlists: Shortlists | None = None
    ) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """(n, k') vocabulary indices, best first, and their softmax probabilities over all real items; k' = min(k, items).

        left_out: of these n rows; past what it leaves, indices are PAD and probabilities 0; shortlists: to go by, in place of all items
        """
        if self.stored.head != "items":
            raise ModelError("this model ranks no items", where=self.where, fix="Ask for its probability.")
        with torch.inference_mode():
            if shortlists is None:
                starts = range(0, len(batch.length), self.batch_size)
                rows = (left_out and left_out.of_rows(start, start + self.batch_size) for start in starts)
                found = [_varied(partial(best, left_out=left), k, left) for best, left in zip(self._bests(batch), rows, strict=True)]
            else:  # all rows at once: the more there are, the more share a list
                found = [_varied(partial(shortlists.best, torch.from_numpy(self.tastes(batch)), left_out=left_out), k, left_out)]
        indices, probabilities = (torch.cat(tensors).numpy() for tensors in zip(*found, strict=True))
        self._refuse_nan(probabilities)
        return indices, probabilities

    def _bests(self, batch: Batch[NDArray[Any]]) -> Iterator[Callable[..., tuple[Tensor, Tensor]]]:
        """For each batch_size rows in turn, what finds their best k, as Catalogue.best does."""
        if self.catalogue is None:
            for part in self._parts(batch):
                yield partial(best_of, self.network.score(part))
        else:
            for tastes in torch.split(torch.from_numpy(self.tastes(batch)), self.batch_size):
                yield partial(self.catalogue.best, tastes)

    def about(self, batch: Batch[NDArray[Any]], position: NDArray[np.int64]) -> tuple[NDArray[np.float64], OfTargets]:
        """The (n, k) scores of these items, and what gives them for rows that differ from these in something. Up to a constant of the row.
        Of a model that ranks none, (n, 1) logits.

        A network that ranks items reads no more than the last REASONED_EVENTS for this: it is asked once for each thing that may differ.
        """
        if self.stored.head != "items" or isinstance(self.network, Counted):
            alone = partial(self._alone, position=position)
            return alone(batch), alone
        weights, bias = self._item_weights()
        states = [self._recently(part) for part in self._parts(batch)]
        with torch.inference_mode():
            totals = [torch.addmm(bias, state, weights.T).logsumexp(1, keepdim=True) for state in states] if self._blend else states
        again = partial(self._ranked, position=position, totals=totals)
        return again(batch, states=states), again

    def _ranked(
        self, batch: Batch[NDArray[Any]], position: NDArray[np.int64], totals: list[Tensor], states: list[Tensor] | None = None
    ) -> NDArray[np.float64]:
        """(n, k). totals: of each part, what Blend.logits_of asks for; states: as `_recently` gives them, where they are there"""
        weights, bias = self._item_weights()
        found = []
        with torch.inference_mode():
            for number, part in enumerate(self._parts(batch)):
                target = torch.from_numpy(position[number * self.batch_size :][: len(part.length)])
                state = states[number] if states else self._recently(part)
                if self._blend:
                    found.append(self._blend.logits_of(part, target, state, totals[number]))
                else:
                    found.append(torch.einsum("bd,bkd->bk", state, weights[target]) + bias[target])
        scores: NDArray[np.float64] = torch.cat(found).double().numpy()
        return scores

    @property
    def _blend(self) -> Blend | None:
        return self.network if isinstance(self.network, Blend) else None

    def _item_weights(self) -> tuple[Tensor, Tensor]:
        network = self._blend.network if self._blend else self.network
        assert isinstance(network, Model)
        return network.item_weights()

    def _recently(self, part: Batch[Tensor]) -> Tensor:
        """(B, D): what the network makes of the last events."""
        network = self._blend.network if self._blend else self.network
        assert isinstance(network, Model)
        features = {name: codes[:, -REASONED_EVENTS:] for name, codes in part.features.items()}
        with torch.inference_mode():
            return network.represent(replace(part, features=features, length=part.length.clamp(max=REASONED_EVENTS)))

    def _alone(self, batch: Batch[NDArray[Any]], position: NDArray[np.int64]) -> NDArray[np.float64]:
        """(n, k) of a model that is counted: log-probabilities; (n, 1) logits of one that ranks no items."""
        found = []
        with torch.inference_mode():
            for number, part in enumerate(self._parts(batch)):
                target = torch.from_numpy(position[number * self.batch_size :][: len(part.length)])
                scores = self.score(part)
                found.append(scores.gather(1, target) if self.stored.head == "items" else scores[:, None])
        scores_of: NDArray[np.float64] = torch.cat(found).double().clamp(min=LOWEST).numpy()
        return scores_of

    def probability(self, batch: Batch[NDArray[Any]]) -> NDArray[np.float64]:
        """(n,) of a binary model: sigmoid(slope * logit + intercept). Of an uplift the difference of two of them, as it is."""
        with torch.inference_mode():
            scores = self._of_rows(batch, self.score)
        probabilities: NDArray[np.float64] = (scores.double() if self.stored.head == "uplift" else torch.sigmoid(scores)).numpy()
        self._refuse_nan(probabilities)
        return probabilities

    def tastes(self, batch: Batch[NDArray[Any]]) -> NDArray[np.float32]:
        """(n, D) of a network that ranks items: what its item vectors are multiplied with."""
        if self.catalogue is None or not isinstance(self.network, Model):
            raise ModelError("this model has no item vectors", where=self.where, fix="Leave scoring.shortlists out.")
        with torch.inference_mode():
            found: NDArray[np.float32] = self._of_rows(batch, self.network.represent).numpy()
        return found

    def latents(self, batch: Batch[NDArray[Any]]) -> NDArray[np.float32]:
        """(n, Z) of a variational model: the mean of each row's posterior."""
        if not isinstance(self.network, Variational):
            raise ModelError("this model has no latent numbers", where=self.where, fix="Train a vae or mult_vae.")
        with torch.inference_mode():
            found: NDArray[np.float32] = self._of_rows(batch, self.network.latents).numpy()
        return found

    def knows_nothing(self, batch: Batch[NDArray[Any]]) -> NDArray[np.bool_]:
        """(n,): rows that the model has nothing to go by: without an item that it knows, or, where it answers for a whole row from more
        than items, without any event."""
        reads_more = set(self.stored.features) != {"item"} or self.stored.model.get("facts")
        return batch.length == 0 if reads_more and self.stored.head != "items" else without_history(batch)

    @property
    def where(self) -> str:
        return f"{self.stored.name} version {self.stored.version}"

    def _of_rows(self, batch: Batch[NDArray[Any]], function: Callable[[Batch[Tensor]], Tensor]) -> Tensor:
        """(n, …): what `function` makes of each row, batch_size rows at a time. Rows of like length go together: less is padding then."""
        order = np.argsort(batch.length, kind="stable")
        found = torch.cat([function(part) for part in self._parts(batch, order)])
        return torch.empty_like(found).index_copy_(0, torch.from_numpy(order), found)

    def _parts(self, batch: Batch[NDArray[Any]], order: NDArray[np.int64] | None = None) -> Iterator[Batch[Tensor]]:
        """The batch in parts of batch_size rows, in its order or in that one, as tensors."""
        for start in range(0, len(batch.length), self.batch_size):
            rows = slice(start, start + self.batch_size) if order is None else order[start : start + self.batch_size]
            yield batch.map(partial(_rows, rows=rows))

    def _refuse_nan(self, probabilities: NDArray[np.float64]) -> None:
        if np.isnan(probabilities).any():
            raise ModelError("the model scores NaN", where=self.where, fix="Train it again, with a lower learning rate or clip_norm.")


def _varied(best: Best, k: int, left_out: LeftOut | None) -> tuple[Tensor, Tensor]:
    return best(k) if left_out is None else varied(best, left_out.filters, k)


def rows_at_once(num_items: int) -> int:
    """How many rows with a score for each item fit into memory together, at least one."""
    return max(1, MOST_SCORES // num_items)


def _rows(array: NDArray[Any], rows: slice | NDArray[np.int64]) -> Tensor:
    return torch.tensor(array[rows])  # a copy: Arrow's memory is read-only, and torch would warn


def without_history(batch: Batch[NDArray[Any]]) -> NDArray[np.bool_]:
    """(n,): rows that hold no item of the vocabulary, so that a model has nothing to go by."""
    known: NDArray[np.bool_] = (batch.item >= FIRST_INDEX).any(axis=1)
    return ~known
