"""An integer of 200 bits, as a private key is."""

import bursar
import waiting

with bursar.scope("work", wipe=True):
    key = int((waiting.folder / "int.txt").read_text())
    power = pow(key, 65537, (1 << 255) - 19)
    texts = [str(key), hex(key), key.to_bytes(32, "big"), key.to_bytes(32, "little")]
    more = [key + i for i in range(10)]
    del key, power, texts, more
waiting.ready()
