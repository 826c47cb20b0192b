"""A log that is kept in memory until it is flushed."""

import logging
import logging.handlers

import bursar
import waiting

log = logging.getLogger("work")
target = logging.FileHandler(waiting.folder / "log")
handler = logging.handlers.MemoryHandler(1000, target=target)
log.addHandler(handler)
log.setLevel(logging.INFO)
with bursar.scope("work", wipe=True):
    log.info("the password is %s", (waiting.folder / "secret.txt").read_text().strip())
bursar.wipe_caches()
waiting.ready()
