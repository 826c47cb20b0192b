"""A table by the csv module."""

import csv

import bursar
import waiting

with bursar.scope("work", wipe=True):
    with open(waiting.folder / "secret.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    names = sorted(row["name"] for row in rows if row["card"])
    del rows
waiting.ready()
