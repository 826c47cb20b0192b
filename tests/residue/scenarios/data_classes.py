"""Data classes and named tuples, sorted and printed."""

import collections
import dataclasses

import bursar
import waiting

Pair = collections.namedtuple("Pair", "name password")


@dataclasses.dataclass(order=True)
class User:
    name: str
    password: str


with bursar.scope("work", wipe=True):
    password = (waiting.folder / "secret.txt").read_text().strip()
    users = sorted(User(f"u{i}", password + str(i)) for i in range(10))
    pairs = [Pair(**dataclasses.asdict(user)) for user in users]
    text = repr(users) + str(pairs)
    del password, users, pairs, text
bursar.wipe_caches()
waiting.ready()
