"""items: what the shop offers, as the source describes it."""

from foretaste.tables.table import Column, Table

ITEMS = Table(
    name="items",
    comment="One row per item that a source describes",
    columns=(
        Column(name="item_id", type="string", comment="the shop's own item id", required=True),
        Column(name="name", type="string", comment="what a person would call it"),
        Column(name="category", type="string", comment="category path, parts joined by /"),
        Column(name="brand", type="string", comment="brand or maker"),
        Column(name="price", type="double", comment="list price in the shop's currency"),
    ),
    key=("item_id",),
)
