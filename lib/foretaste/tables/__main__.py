"""`python -m foretaste.tables`: the table of tables, as the README holds it."""

from foretaste.tables import TABLES


def reference() -> str:
    """Markdown: each table with its key, and a line for each column. A required column is never null."""
    return "\n\n".join(
        f"**{table.name}** {table.comment[0].lower()}{table.comment[1:]}. Key: {', '.join(table.key)}.\n\n"
        "| column | type | meaning |\n| --- | --- | --- |\n"
        + "\n".join(
            f"| {column.name}{'' if column.required else ' (may be null)'} | {column.type} | {column.comment} |" for column in table.columns
        )
        for table in TABLES.values()
    )


if __name__ == "__main__":
    print(reference())
