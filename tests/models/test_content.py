"""Item vectors made of content: the same content is the same vector, own vectors come on top, and steps are the same on all ranks."""

import pytest
import torch

from foretaste.contract import NUM_CONTENT_WORDS, PAD, WORDS_PER_ITEM
from foretaste.errors import ModelError
from foretaste.models import Model, build
from foretaste.models.content import ContentEmbedding
from tests.models.rows import HISTORIES, SIZES, batch_of


def words(*items: list[int]) -> torch.Tensor:
    table = torch.full((SIZES.num_items, WORDS_PER_ITEM), PAD, dtype=torch.int32)
    for item, codes in enumerate(items, start=2):
        table[item, : len(codes)] = torch.tensor(codes)
    return table


def model(**options: object) -> Model:
    torch.manual_seed(0)
    found = build("gru", head="items", label="next_items", sizes=SIZES, size="tiny", dropout=0.0, content=True, **options)
    found.follow({"popularity": torch.ones(SIZES.num_items - 2), "content": words([5, 6], [5, 6], [7], [5, 6, 7])})
    return found


def content_of(found: Model) -> ContentEmbedding:
    assert found.content is not None
    return found.content


def test_same_content_is_the_same_vector_but_for_the_items_own() -> None:
    content = content_of(model())
    said = content.vectors(content.words)
    assert torch.equal(said[2], said[3])
    assert not torch.isclose(said[2], said[4]).any()
    apart = content.weight[2] - content.weight[3]
    assert torch.allclose(apart, content.own[2] - content.own[3], atol=1e-6)


def test_a_word_that_no_two_items_share_says_nothing() -> None:
    content = content_of(model())
    plain, with_unknown = torch.tensor([[5, 6] + [PAD] * 14]), torch.tensor([[5, 6, 99] + [PAD] * 13])
    assert torch.equal(content.vectors(plain), content.vectors(with_unknown))


def test_padding_has_no_vector() -> None:
    found = model().eval()
    assert not content_of(found).weight[PAD].any()
    with torch.no_grad():
        assert torch.allclose(found.score(batch_of(HISTORIES, 6)), found.score(batch_of(HISTORIES, 9)), atol=1e-6)


def test_a_step_leaves_out_own_vectors_by_the_models_noise() -> None:
    """The same noise, the same loss; another, another. What learns are words, tower and own vectors."""
    found, rows = model(), batch_of(HISTORIES, 6)

    def loss(seed: int) -> torch.Tensor:
        found.noise.manual_seed(seed)
        return next(iter(found.step(rows))).total

    assert torch.equal(loss(1), loss(1))
    assert not torch.equal(loss(1), loss(2))
    loss(1).backward()
    content = content_of(found)
    for parameter in (content.of_words.weight, content.own, *content.tower.parameters()):
        assert parameter.grad is not None
        assert parameter.grad.any()


def test_vectors_are_made_anew_after_each_step_of_an_optimizer() -> None:
    found, rows = model().train(), batch_of(HISTORIES, 6)
    with torch.no_grad():
        before = found.eval().score(rows)
    optimizer = found.train().optimizers(learning_rate=0.1, weight_decay=0.0)["main"]
    next(iter(found.step(rows))).total.backward()
    optimizer.step()
    with torch.no_grad():
        assert not torch.isclose(found.eval().score(rows), before).all()


def test_words_lie_below_their_number() -> None:
    assert content_of(model()).of_words.num_embeddings == NUM_CONTENT_WORDS


def test_other_networks_have_no_such_setting() -> None:
    with pytest.raises(ModelError, match="mult_vae has no setting content"):
        build("mult_vae", head="items", label="next_items", sizes=SIZES, content=True)
