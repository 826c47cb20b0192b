"""hashlib, hmac and a key derivation."""

import hashlib
import hmac

import bursar
import waiting

with bursar.scope("work", wipe=True):
    key = (waiting.folder / "secret.txt").read_bytes().strip()
    digests = [
        hashlib.sha256(key).hexdigest(), hmac.new(key, b"message", "sha256").hexdigest(),
        hashlib.pbkdf2_hmac("sha256", key, b"salt", 10), hashlib.scrypt(key, salt=b"salt", n=16, r=8, p=1),
    ]  # fmt: skip
    same = hmac.compare_digest(key, key + b"")
    del key, digests
waiting.ready()
