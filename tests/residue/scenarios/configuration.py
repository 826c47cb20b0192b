"""A configuration file."""

import configparser

import bursar
import waiting

with bursar.scope("work", wipe=True):
    parser = configparser.ConfigParser()
    parser.read(waiting.folder / "secret.ini")
    password = parser["database"]["password"]
    values = dict(parser["database"])
    del parser, password, values
bursar.wipe_caches()
waiting.ready()
