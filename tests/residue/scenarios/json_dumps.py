"""JSON written again, indented and not."""

import json

import bursar
import waiting

with bursar.scope("work", wipe=True):
    document = json.loads((waiting.folder / "secret.json").read_bytes())
    document["history"] = [document["password"]] * 3
    texts = [json.dumps(document), json.dumps(document, indent=2, sort_keys=True), json.dumps(document).encode()]
    del document, texts
waiting.ready()
