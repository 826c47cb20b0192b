"""Pickle, there and back, with its memo."""

import pickle

import bursar
import waiting

with bursar.scope("work", wipe=True):
    with open(waiting.folder / "secret.pickle", "rb") as file:
        unpickler = pickle.Unpickler(file)
        document = unpickler.load()
    data = [pickle.dumps(document, protocol) for protocol in range(pickle.HIGHEST_PROTOCOL + 1)]
    again = pickle.loads(data[0])
    del document, data, again, unpickler
waiting.ready()
