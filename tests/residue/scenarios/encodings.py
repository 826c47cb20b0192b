"""Hexadecimal, base64 and text encodings."""

import base64
import binascii
import urllib.parse

import bursar
import waiting

with bursar.scope("work", wipe=True):
    data = (waiting.folder / "secret.txt").read_bytes().strip()
    texts: list[object] = [
        data.hex(), binascii.hexlify(data), base64.b64encode(data), base64.b64encode(b"ada:" + data).decode(),
        base64.urlsafe_b64encode(b"x" + data), data.decode().encode("utf-32"), urllib.parse.quote_from_bytes(data),
        base64.b64decode(base64.b64encode(data)),
    ]  # fmt: skip
    del data, texts
waiting.ready()
