"""json: dumps and loads of a document of nested records, a few results kept."""
import json
import os
from collections import deque

SCALE = float(os.environ.get("BENCH_SCALE", "1"))


def document(records: int) -> list[dict[str, object]]:
    return [
        {
            "id": i,
            "name": f"customer {i}",
            "email": f"user{i}@example.org",
            "balance": i * 1.25,
            "tags": [f"tag{i % 7}", f"tag{i % 11}", "common"],
            "address": {"street": f"{i} High Street", "city": f"city {i % 97}", "zip": str(10000 + i)},
            "history": [{"at": i + j, "amount": j * 0.5} for j in range(4)],
        }
        for i in range(records)
    ]


def main() -> None:
    source = document(4000)
    kept: deque[object] = deque(maxlen=3)
    length = 0
    for _ in range(max(1, round(72 * SCALE))):
        text = json.dumps(source)
        length += len(text)
        kept.append(json.loads(text))
    print("json", length, len(kept))


main()
