"""One fit of RecBole, in an environment of its own (no Foretaste here): bench/training.py starts it and reads the line that it prints.

python recbole_side.py GRU4Rec FOLDER EPOCHS PATIENCE BATCH_SIZE THREADS WIDTH SEED LEARNING_RATE

FOLDER/shop/shop.inter holds user_id, item_id and timestamp. Printed is JSON: targets and seconds of each epoch, and, where PATIENCE
is not 0, the Recall@20 of the test items of the epoch that was best on the validation items.
"""

import copy
import json
import sys
import time

import torch
from recbole.config import Config
from recbole.data import create_dataset, data_preparation
from recbole.trainer import Trainer
from recbole.utils import get_model, init_seed

name, folder, epochs, patience, batch_size, threads, width, seed, learning_rate = sys.argv[1:]
torch.set_num_threads(int(threads))
sizes = {
    "GRU4Rec": {"hidden_size": int(width), "num_layers": 1, "dropout_prob": 0.3},
    "SASRec": {
        "hidden_size": int(width),
        "inner_size": 4 * int(width),
        "n_layers": 2,
        "n_heads": 2,
        "hidden_dropout_prob": 0.5,
        "attn_dropout_prob": 0.5,
    },
}
settings = {
    "data_path": folder,
    "load_col": {"inter": ["user_id", "item_id", "timestamp"]},
    "eval_args": {"split": {"LS": "valid_and_test"}, "order": "TO", "group_by": "user", "mode": "full"},
    "MAX_ITEM_LIST_LENGTH": 50,
    "loss_type": "CE",
    "train_neg_sample_args": None,
    "train_batch_size": int(batch_size),
    "eval_batch_size": 512,
    "learning_rate": float(learning_rate),
    "metrics": ["Recall", "MRR"],
    "topk": [20],
    "valid_metric": "MRR@20",
    "metric_decimal_place": 6,
    "use_gpu": False,
    "worker": 0,
    "show_progress": False,
    "state": "ERROR",
    "seed": int(seed),
    "embedding_size": int(width),
    **sizes[name],
}
sys.argv = sys.argv[:1]  # RecBole would read them as settings
config = Config(model=name, dataset="shop", config_dict=settings)
init_seed(config["seed"], True)
dataset = create_dataset(config)
train, valid, test = data_preparation(config, dataset)
model = get_model(name)(config, train.dataset)
trainer = Trainer(config, model)
history, best, kept = [], (-1.0, 0), None
for epoch in range(1, int(epochs) + 1):
    started = time.monotonic()
    loss = trainer._train_epoch(train, epoch, show_progress=False)
    history.append({"seconds": time.monotonic() - started, "targets": len(train.dataset), "loss": float(loss)})
    if int(patience) == 0:
        continue
    told = trainer.evaluate(valid, load_best_model=False)
    value = told["mrr@20"]
    if value > best[0]:
        best, kept = (float(value), epoch), copy.deepcopy(model.state_dict())
    print(
        f"epoch {epoch}: {history[-1]['seconds']:.1f} s, validation mrr@20 {value:.4f}, recall@20 {told['recall@20']:.4f}",
        file=sys.stderr,
        flush=True,
    )
    if epoch - best[1] >= int(patience):
        break
found = {"history": history, "parameters": sum(each.numel() for each in model.parameters())}
if kept is not None:
    model.load_state_dict(kept)
    found |= {"recall": float(trainer.evaluate(test, load_best_model=False)["recall@20"]), "epoch": best[1]}
print(json.dumps(found))
