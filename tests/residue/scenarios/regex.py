"""Regular expressions, one with the password in it, which re's cache keeps."""

import re

import bursar
import waiting

with bursar.scope("work", wipe=True):
    text = (waiting.folder / "secret.json").read_text()
    match = re.search(r'"password": *"(\w+)"', text)
    password = match.group(1) if match else ""
    found = re.findall(password, text)
    hidden = re.sub(re.escape(password), lambda found: "*" * len(found.group()), text)
    del text, match, password, found, hidden
bursar.wipe_caches()
waiting.ready()
