"""Numbers by pandas: merged, pivoted, described."""

import bursar
import pandas
import waiting

with bursar.scope("work", wipe=True):
    price = float((waiting.folder / "float.txt").read_text())
    table = pandas.DataFrame({"key": [1, 2, 3], "price": [price, 2.0, price]})
    merged = table.merge(table, on="key")
    text = merged.to_json() + str(merged.describe())
    del price, table, merged, text
bursar.wipe_caches()
waiting.ready()
