"""A log file."""

import logging

import bursar
import waiting

logging.basicConfig(filename=waiting.folder / "log", level=logging.DEBUG)
with bursar.scope("work", wipe=True):
    password = (waiting.folder / "secret.txt").read_text().strip()
    logging.info("the password is %s", password)
    try:
        raise ValueError(password)
    except ValueError:
        logging.exception("it failed")
    del password
bursar.wipe_caches()
waiting.ready()
