"""All of stdin, in binary."""

import sys

import bursar
import waiting

with bursar.scope("work", wipe=True):
    data = sys.stdin.buffer.read()
    fields = data.split()
    del data, fields
bursar.wipe_caches()
waiting.ready()
