"""f-strings, %, format and templates."""

import string

import bursar
import waiting


def work() -> int:
    password = (waiting.folder / "secret.txt").read_text().strip()
    texts = [f"{password:>80}", f"{password!r}", "%s:%s" % ("ada", password)]  # noqa: UP031
    texts.append("{0}{0}".format(password))  # noqa: UP032
    texts.append(string.Template("it is $it").substitute(it=password))
    return len("".join(texts))


with bursar.scope("work", wipe=True):
    work()
waiting.ready()
