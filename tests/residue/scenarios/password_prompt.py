"""getpass, where there is no terminal: it reads stdin."""

import getpass
import warnings

import bursar
import waiting

warnings.simplefilter("ignore")
with bursar.scope("work", wipe=True):
    password = getpass.getpass("", stream=None)
    length = len(password)
    del password
bursar.wipe_caches()
waiting.ready()
