"""Parquet, there and back: Arrow has an allocator and threads of its own."""

import bursar
import pandas
import pyarrow  # noqa: F401
import waiting

with bursar.scope("work", wipe=True):
    table = pandas.read_csv(waiting.folder / "secret.csv")
    table.to_parquet(waiting.folder / "new.parquet")
    again = pandas.read_parquet(waiting.folder / "new.parquet")
    del table, again
bursar.wipe_caches()
waiting.ready()
