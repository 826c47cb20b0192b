"""trees: binary trees of Python objects, built, walked and dropped, beside one that lives to the end."""
from __future__ import annotations

import os

SCALE = float(os.environ.get("BENCH_SCALE", "1"))


class Node:
    __slots__ = ("key", "label", "left", "right")

    def __init__(self, key: int, left: Node | None, right: Node | None) -> None:
        self.key = key
        self.label = f"n{key}"
        self.left = left
        self.right = right


def build(depth: int, key: int) -> Node:
    if depth == 0:
        return Node(key, None, None)
    return Node(key, build(depth - 1, 2 * key), build(depth - 1, 2 * key + 1))


def count(node: Node | None) -> int:
    if node is None:
        return 0
    return 1 + count(node.left) + count(node.right)


def main() -> None:
    kept = build(16, 1)
    nodes = 0
    for round_ in range(max(1, round(62 * SCALE))):
        nodes += count(build(14, 1 + round_))
    print("trees", nodes + count(kept))


main()
