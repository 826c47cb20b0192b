"""A database that stays open after it was asked: the pages that were read are cached."""

import sqlite3

import bursar
import waiting

connection = sqlite3.connect(waiting.folder / "secret.db")
with bursar.scope("work", wipe=True):
    rows = connection.execute("select name, length(password) from users").fetchall()
    del rows
bursar.wipe_caches()
waiting.ready()
