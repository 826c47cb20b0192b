"""A database that is written to and closed."""

import sqlite3

import bursar
import waiting

with bursar.scope("work", wipe=True):
    password = (waiting.folder / "secret.txt").read_text().strip()
    connection = sqlite3.connect(waiting.folder / "new.db")
    connection.execute("create table users (name text, password text)")
    connection.execute("insert into users values ('ada', ?)", (password,))
    connection.commit()
    rows = connection.execute("select password from users where password = ?", (password,)).fetchall()
    connection.close()
    del password, rows, connection
waiting.ready()
