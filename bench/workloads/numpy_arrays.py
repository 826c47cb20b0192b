"""numpy: expressions over arrays from a kilobyte to some megabytes, each with its temporaries, and many small ones."""
import os

import numpy as np

SCALE = float(os.environ.get("BENCH_SCALE", "1"))


def main() -> None:
    random = np.random.default_rng(5)
    total = 0.0
    for _ in range(max(1, round(90 * SCALE))):
        for elements in (1 << 7, 1 << 11, 1 << 15, 1 << 19):
            a, b = random.random(elements), random.random(elements)
            for _ in range(max(1, (1 << 19) // elements // 8)):
                c = (a - b) ** 2 + np.sqrt(a * b)
                total += float(c[c > 0.5].sum() + np.where(a > b, a, b).mean())
        order = np.argsort(random.random(200_000))
        total += float(np.cumsum(order)[::1000].astype("f8").sum())
    print("numpy", round(total))


main()
