import json
from pathlib import Path

import pytest
import torch

from foretaste.contract import Sizes
from foretaste.errors import TrainingError
from foretaste.models import Model, build
from foretaste.training.checkpoints import Checkpoint, Checkpoints, State, pack, unpack
from tests.training import toys


def small_model(seed: int) -> Model:
    torch.manual_seed(seed)
    return build("gru", head="items", label="next_items", sizes=Sizes(num_items=8), embedding=4, hidden=(4,))


def at(epoch: int, best_epoch: int, tensors: bytes = b"tensors") -> Checkpoint:
    history = tuple({"epoch": number, "loss": 1 / number} for number in range(1, epoch + 1))
    return Checkpoint(state=State(epoch=epoch, best_epoch=best_epoch, best_value=0.5, history=history), tensors=tensors)


def test_what_was_packed_comes_back_whole() -> None:
    model = small_model(0)
    optimizers = model.optimizers(learning_rate=0.1, weight_decay=0.0)
    for _ in range(2):
        (loss,) = model.step(toys.rows(6))
        loss.total.backward()
        optimizers["main"].step()
    other = small_model(1)
    others = other.optimizers(learning_rate=0.1, weight_decay=0.0)
    unpack(pack(model, optimizers), other, others)
    torch.testing.assert_close(other.state_dict(), model.state_dict(), atol=0, rtol=0)
    kept, expected = others["main"].state_dict()["state"], optimizers["main"].state_dict()["state"]
    assert kept.keys() == expected.keys()
    for index, entries in expected.items():
        assert entries["step"] == 2
        torch.testing.assert_close(kept[index], entries, atol=0, rtol=0)


def test_the_newest_is_read_and_only_two_and_the_best_are_kept(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path, "digest")
    for epoch in range(1, 6):
        checkpoints.save(at(epoch, best_epoch=min(epoch, 2), tensors=b"tensors %d" % epoch))
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        f"epoch-{epoch}.{kind}" for epoch in ("0002", "0004", "0005") for kind in ("json", "safetensors")
    ]
    newest, notes = checkpoints.newest()
    assert newest == at(5, best_epoch=2, tensors=b"tensors 5")
    assert notes == []


def test_a_truncated_checkpoint_is_skipped_with_a_note(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path, "digest")
    for epoch in (1, 2):
        checkpoints.save(at(epoch, best_epoch=epoch))
    (tmp_path / "epoch-0002.safetensors").write_bytes(b"tens")
    newest, notes = checkpoints.newest()
    assert newest == at(1, best_epoch=1)
    assert notes == ["skipped checkpoint epoch-0002: its tensors are cut short or changed"]

    (tmp_path / "epoch-0001.json").write_text('{"digest": "dig')
    newest, notes = checkpoints.newest()
    assert newest is None
    assert notes[1] == "skipped checkpoint epoch-0001: it cannot be read"


def test_a_checkpoint_whose_best_is_gone_is_skipped(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path, "digest")
    for epoch in (1, 2, 3):
        checkpoints.save(at(epoch, best_epoch=min(epoch, 2)))
    (tmp_path / "epoch-0002.safetensors").unlink()
    newest, notes = checkpoints.newest()
    assert newest is None  # epoch 1 was pruned
    assert notes == [
        "skipped checkpoint epoch-0003: the best one before it, epoch-0002, is not whole",
        "skipped checkpoint epoch-0002: it cannot be read",
    ]


def test_a_checkpoint_of_other_settings_is_none(tmp_path: Path) -> None:
    Checkpoints(tmp_path, "digest").save(at(1, best_epoch=1))
    assert Checkpoints(tmp_path, "another").newest() == (None, [])


def test_nothing_is_pickled(tmp_path: Path) -> None:
    Checkpoints(tmp_path, "digest").save(at(1, best_epoch=1))
    assert {path.suffix for path in tmp_path.iterdir()} == {".json", ".safetensors"}
    json.loads((tmp_path / "epoch-0001.json").read_text())


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(TrainingError, match=r"a checkpoint cannot be written: .*file"):
        Checkpoints(tmp_path / "file", "digest").save(at(1, best_epoch=1))
