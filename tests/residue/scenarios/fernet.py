"""Fernet of cryptography, with a key from a file."""

import base64

import bursar
import cryptography.fernet
import waiting

with bursar.scope("work", wipe=True):
    key = base64.urlsafe_b64encode((waiting.folder / "secret.txt").read_bytes()[:32])
    box = cryptography.fernet.Fernet(key)
    token = box.encrypt((waiting.folder / "secret.json").read_bytes())
    text = box.decrypt(token)
    del key, box, token, text
bursar.wipe_caches()
waiting.ready()
