"""Strings: joined, cut, in capitals, encoded."""

import bursar
import waiting


def work() -> None:
    text = (waiting.folder / "secret.txt").read_text().strip()
    parts = [text.upper(), text.lower(), text[4:28], "user:" + text, text.encode("utf-16"), text.replace("a", "b")]
    parts.append(" ".join(map(str, parts)))
    del text, parts


with bursar.scope("work", wipe=True):
    work()
waiting.ready()
