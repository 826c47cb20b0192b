"""A shelf, over dbm."""

import dbm.dumb
import shelve

import bursar
import waiting

with bursar.scope("work", wipe=True):
    with shelve.Shelf(dbm.dumb.open(str(waiting.folder / "shelf"), "n")) as shelf:
        shelf["ada"] = {"password": (waiting.folder / "secret.txt").read_text()}
        record = shelf["ada"]
    del record, shelf
bursar.wipe_caches()
waiting.ready()
