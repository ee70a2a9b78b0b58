"""vocabulary: the integers that stand for items, categories and prices, fitted on training time only."""

from foretaste.tables.table import Column, Table

VOCABULARY = Table(
    name="vocabulary",
    comment="One row per field and value that a model knows, with the integer that stands for it",
    columns=(
        Column(name="field", type="string", comment="item, category or price", required=True),
        Column(name="value", type="string", comment="the item id or category; for a price, its bucket's upper edge", required=True),
        Column(name="index", type="int", comment="from 2 (0 is padding, 1 unknown): items and categories by falling count", required=True),
        Column(name="count", type="bigint", comment="events with it in training time", required=True),
        Column(name="upper", type="double", comment="upper edge of a price bucket; null for other fields and for the last bucket"),
    ),
    key=("field", "value"),
    checks={"index_is_real": "index >= 2"},
)
