"""Addresses with a token in them: urllib.parse keeps what it split."""

import urllib.parse
import urllib.request

import bursar
import waiting

with bursar.scope("work", wipe=True):
    token = (waiting.folder / "secret.txt").read_text().strip()
    address = "https://example.org/items?" + urllib.parse.urlencode({"token": token, "page": 2})
    parts = urllib.parse.urlsplit(address)
    query = urllib.parse.parse_qs(parts.query)
    request = urllib.request.Request(address, headers={"Authorization": f"Bearer {token}"})
    del token, address, parts, query, request
bursar.wipe_caches()
waiting.ready()
