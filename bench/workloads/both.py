"""both: json documents and object trees in turn, the mix that the capture size is measured on."""
from __future__ import annotations

import json
import os

SCALE = float(os.environ.get("BENCH_SCALE", "1"))


class Node:
    def __init__(self, key: int, children: list[Node]) -> None:
        self.key = key
        self.label = f"node {key}"
        self.children = children


def build(depth: int, key: int) -> Node:
    if depth == 0:
        return Node(key, [])
    return Node(key, [build(depth - 1, 3 * key + i) for i in range(3)])


def as_document(node: Node) -> dict[str, object]:
    return {"key": node.key, "label": node.label, "children": [as_document(child) for child in node.children]}


def from_document(document: dict[str, object]) -> Node:
    children = document["children"]
    assert isinstance(children, list)
    key = document["key"]
    assert isinstance(key, int)
    return Node(key, [from_document(child) for child in children])


def main() -> None:
    kept = [build(9, key) for key in range(3)]
    letters = 0
    for round_ in range(max(1, round(20 * SCALE))):
        text = json.dumps(as_document(build(8, round_)))
        letters += len(text)
        again = json.dumps(as_document(from_document(json.loads(text))))
        assert again == text
        for _ in range(4):
            letters += len(json.dumps(json.loads(text)))
    print("both", letters, len(kept))


main()
