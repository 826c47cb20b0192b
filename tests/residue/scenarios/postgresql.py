"""A PostgreSQL server: the password, and a row with it."""

import bursar
import psycopg
import waiting

with bursar.scope("work", wipe=True):
    server = (waiting.folder / "server").read_text()
    password = (waiting.folder / "secret.txt").read_text().strip()
    with psycopg.connect(host=server, user="ada", password=password, dbname="postgres") as connection:
        connection.execute("create temporary table users (name text, password text)")
        connection.execute("insert into users values ('ada', %s)", (password,))
        rows = connection.execute("select password from users where password = %s", (password,)).fetchall()
    del password, connection, rows
bursar.wipe_caches()
waiting.ready()
