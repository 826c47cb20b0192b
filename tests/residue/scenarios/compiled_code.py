"""Code with the password among its constants."""

import bursar
import waiting


def work() -> None:
    text = (waiting.folder / "secret.txt").read_text().strip()
    names: dict[str, object] = {}
    exec(compile(f"PASSWORD = 'p-{text}'\ndef check(it): return it == PASSWORD\n", "made", "exec"), names)
    check = names["check"]
    assert callable(check) and check("p-" + text)
    names.clear()


with bursar.scope("work", wipe=True):
    work()
bursar.wipe_caches()
waiting.ready()
