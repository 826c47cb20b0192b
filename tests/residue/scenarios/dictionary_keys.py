"""As a key: of dictionaries, of sets, and as the name of an attribute."""

import bursar
import waiting


def work() -> None:
    class Record:
        pass

    text = (waiting.folder / "secret.txt").read_text().strip()
    table = {text: 1, text + "2": 2}
    seen = {text, text.encode()}
    record = Record()
    setattr(record, "n" + text, 5)
    value = getattr(record, "no" + text, None)
    del table, seen, record, value


with bursar.scope("work", wipe=True):
    work()
bursar.wipe_caches()
waiting.ready()
