"""A table by pandas: read, grouped, written."""

import io

import bursar
import pandas
import waiting

with bursar.scope("work", wipe=True):
    table = pandas.read_csv(waiting.folder / "secret.csv")
    table["length"] = table["card"].str.len()
    grouped = table.groupby("card")["length"].sum()
    out = io.StringIO()
    table.sort_values("name").to_csv(out)
    text = out.getvalue() + repr(table)
    del table, grouped, out, text
bursar.wipe_caches()
waiting.ready()
