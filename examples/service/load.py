"""Drives an example service with wrk (a Debian package): a flood in which one request in so many is absurd.

    python load.py [URL [TOTAL [EVERY]]]

Prints what came back: an honest request has its right answer (`right`), whatever others ask for; an absurd one, which
needs gigabytes, is refused.
"""

import importlib
import json
import os
import select
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

FLOOD = Path(__file__).with_name("flood.lua")
GIGABYTES = 2


def write_requests(path: Path, absurd: tuple[str, ...] = ("/predict", "/explain"), honest: int = 12) -> None:
    """What flood.lua sends: honest requests with their answers, and for each path in `absurd` one that is not."""
    from sklearn.datasets import load_digits  # who only sends needs neither it nor the model

    model = importlib.import_module(os.environ.get("SERVICE_MODEL", "model"))
    images = load_digits().data.tolist()
    lines = []
    for number in range(honest):
        if number % 4 == 3:
            asked = {"id": number, "row": images[number], "rounds": 3}
            parts = model.explain(images[number], 3)
            at = max(parts, key=lambda at: abs(parts[at]))
            lines.append(("honest", "/explain", asked, f'"{at}":{json.dumps(parts[at])}'))
        else:
            rows = images[number : number + 4]
            copies = 1 + number % 3
            digits = json.dumps(model.predict(rows, copies), separators=(",", ":"))
            asked = {"id": number, "rows": rows, "copies": copies}
            lines.append(("honest", "/predict", asked, f'"digits":{digits}'))
    for where in absurd:
        if where == "/predict":
            asked = {"id": 99, "rows": images[:1], "copies": GIGABYTES * 10**9 // 512}
        else:
            asked = {"id": 99, "row": images[0], "rounds": GIGABYTES * 10**9 // (64 * 96)}
        lines.append(("absurd", where, asked, ""))
    text = "".join(f"{kind}\t{where}\t{json.dumps(asked)}\t{answer}\n" for kind, where, asked, answer in lines)
    path.write_text(text)


def flood(
    url: str, requests: Path, total: int, every: int = 50, *, connections: int = 8, seconds: int = 60,
    server: "subprocess.Popen[Any] | None" = None,
) -> dict[str, Any]:  # fmt: skip
    """Sends so many requests, one in `every` absurd (0: none), for so long at most, and no more once `server` has
    ended.  What came back, as counts."""
    words = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", f"-T{seconds}s", f"-s{FLOOD}", url, "--"]
    words += [str(requests), str(total), str(every)]
    said = b""
    with subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE) as wrk:
        assert wrk.stdout
        told = False
        while part := os.read(wrk.stdout.fileno(), 65536) if select.select([wrk.stdout], [], [], 0.1)[0] else b" ":
            said += part
            if not told and (b"all answered\n" in said or (server and server.poll() is not None)):
                wrk.send_signal(signal.SIGINT)
                told = True
        if wrk.wait():
            raise RuntimeError(f"wrk ended with {wrk.returncode}: {said.decode()}")
    counts: dict[str, Any] = json.loads(said[said.rindex(b"\n{") :])
    return counts


def main(arguments: list[str]) -> None:
    url, total, every = arguments + ["http://127.0.0.1:8000", "5000", "50"][len(arguments) :]
    with tempfile.TemporaryDirectory() as folder:
        write_requests(requests := Path(folder, "requests"))
        for name, value in flood(url, requests, int(total), int(every)).items():
            print(f"{name:12} {value}")


if __name__ == "__main__":
    main(sys.argv[1:])
