"""Ids → pseudonyms, by HMAC-SHA-256 with a key that only ingest and erase know.

The same id has the same pseudonym in every run, so that all that follows joins as before; without the key nobody finds the pseudonym of
an id by trying ids. The key travels inside the function that Spark ships: no plan, table or log shows it.
"""

import hmac
import os

import numpy as np
import pandas as pd
from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql.pandas.functions import pandas_udf

from foretaste.errors import SettingsError

LEAST_BYTES = 32
OTHERS = ("session_hint", "event_id")
"""Text that may be, or hold, the id of somebody: compared, and never read."""


class Pseudonyms:
    """Makes pseudonyms with one key."""

    def __init__(self, key: bytes) -> None:
        self._key = key

    def __repr__(self) -> str:
        return "Pseudonyms(key hidden)"

    @property
    def fingerprint(self) -> str:
        """Tells whether two keys are the same, and nothing else of them."""
        return hmac.digest(self._key, b"foretaste: which key is this?", "sha256").hex()[:16]

    def of(self, column: Column, kind: str = "") -> Column:
        """The pseudonym of each text, 64 hexadecimal digits; null of null. kind: what it names, where that is not a user"""
        key, prefix = self._key, f"{kind}:".encode() if kind else b""

        def pseudonym(ids: pd.Series) -> pd.Series:
            codes, distinct = pd.factorize(ids)  # -1 for null
            hashed = [hmac.digest(key, prefix + each.encode(), "sha256").hex() for each in distinct]
            return pd.Series(np.array([*hashed, None], dtype=object)[codes])

        return pandas_udf(pseudonym, "string")(column)  # type: ignore[call-overload,no-any-return]


def read_key(spark: SparkSession, where: str) -> Pseudonyms:
    """The key at `where`, as the setting `privacy.pseudonyms.key` says it; SettingsError where there is none, or a weak one."""
    kind, _, name = where.partition(":")
    found = os.environ.get(name) if kind == "env" else _secret(spark, name)
    example = f"such as {kind}'s of `python -c 'import secrets; print(secrets.token_hex(32))'`, and keep it"
    if not found:
        raise SettingsError("there is no key for pseudonyms", where=f"privacy.pseudonyms.key: {where}", fix=f"Put one there, {example}.")
    key = found.encode()
    if len(key) < LEAST_BYTES or len(set(key)) < 8:
        raise SettingsError(
            f"the key for pseudonyms is too easy to guess: {LEAST_BYTES} random characters at least",
            where=f"privacy.pseudonyms.key: {where}",
            fix=f"Make one, {example}.",
        )
    return Pseudonyms(key)


def _secret(spark: SparkSession, name: str) -> str | None:
    scope, _, key = name.partition("/")
    try:
        from pyspark.dbutils import DBUtils  # type: ignore[import-not-found,unused-ignore]  # Databricks alone has it
    except ImportError:
        raise SettingsError(
            "secret scopes are Databricks', and this is not", where="privacy.pseudonyms.key", fix="Use env:NAME here."
        ) from None
    try:
        return str(DBUtils(spark).secrets.get(scope, key))
    except Exception:  # whatever it says may quote what it should not
        return None


def renamed(judged: DataFrame, pseudonyms: Pseudonyms) -> DataFrame:
    """Judged records whose users, sessions and own event ids have pseudonyms."""
    others = {name: pseudonyms.of(F.col(name), name) for name in OTHERS}
    return judged.withColumns({"user_id": pseudonyms.of(F.col("user_id")), **others})
