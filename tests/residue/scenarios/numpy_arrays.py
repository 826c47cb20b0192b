"""Arrays: sliced, cast, sorted, joined; small ones, whose blocks NumPy keeps for the next."""

import bursar
import numpy
import waiting

with bursar.scope("work", wipe=True):
    data = numpy.load(waiting.folder / "secret.npy")
    parts = [data[i : i + 16].copy() for i in range(16)]
    parts += [numpy.sort(data), data.astype("u4"), numpy.concatenate([data, data]), data[::-1].copy()]
    text = data.tobytes()
    del data, parts, text
bursar.wipe_caches()
waiting.ready()
