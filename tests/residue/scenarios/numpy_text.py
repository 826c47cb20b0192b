"""NumPy's text, numbers and record arrays."""

import io

import bursar
import numpy
import waiting

with bursar.scope("work", wipe=True):
    words = numpy.genfromtxt(waiting.folder / "secret.csv", delimiter=",", dtype="U32", skip_header=1)
    cards = words[:, 1]
    upper = numpy.char.upper(cards)
    prices = numpy.loadtxt(io.StringIO((waiting.folder / "float.txt").read_text() * 3))
    printed = str(prices) + repr(cards)
    records = numpy.array([(1, prices[0])], dtype=[("n", "i4"), ("price", "f8")])
    del words, cards, upper, prices, printed, records
bursar.wipe_caches()
waiting.ready()
