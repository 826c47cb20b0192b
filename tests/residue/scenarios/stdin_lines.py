"""A line from stdin, as input() gives it."""

import bursar
import waiting

with bursar.scope("work", wipe=True):
    line = input()
    words = line.split()
    del line, words
bursar.wipe_caches()
waiting.ready()
