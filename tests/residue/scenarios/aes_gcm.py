"""AES-GCM of cryptography."""

import os

import bursar
import waiting
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

with bursar.scope("work", wipe=True):
    key = (waiting.folder / "secret.txt").read_bytes()[:32]
    box = AESGCM(key)
    nonce = os.urandom(12)
    text = box.decrypt(nonce, box.encrypt(nonce, (waiting.folder / "secret.json").read_bytes(), None), None)
    del key, box, text
bursar.wipe_caches()
waiting.ready()
