"""HDF5 by h5py."""

import bursar
import h5py
import waiting

with bursar.scope("work", wipe=True):
    with h5py.File(waiting.folder / "new.h5", "w") as file:
        file["secret"] = (waiting.folder / "secret.txt").read_bytes()
    with h5py.File(waiting.folder / "new.h5") as file:
        data = file["secret"][()]
    del data, file
bursar.wipe_caches()
waiting.ready()
