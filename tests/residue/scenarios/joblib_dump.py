"""joblib, there and back, and a call in parallel threads."""

import bursar
import joblib
import waiting

with bursar.scope("work", wipe=True):
    text = (waiting.folder / "secret.txt").read_text()
    joblib.dump({"password": text}, waiting.folder / "new.joblib", compress=3)
    again = joblib.load(waiting.folder / "new.joblib")
    lengths = joblib.Parallel(2, prefer="threads")(joblib.delayed(str.upper)(text) for _ in range(4))
    del text, again, lengths
bursar.wipe_caches()
waiting.ready()
