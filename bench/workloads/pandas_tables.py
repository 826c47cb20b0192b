"""pandas: groupby, merge, pivot and string columns on tables of half a million rows."""
import os

import numpy as np
import pandas as pd

SCALE = float(os.environ.get("BENCH_SCALE", "1"))


def main() -> None:
    rows = 500_000
    random = np.random.default_rng(7)
    sales = pd.DataFrame(
        {
            "customer": random.integers(0, 20_000, rows),
            "shop": random.integers(0, 200, rows),
            "day": random.integers(0, 365, rows),
            "amount": random.random(rows) * 100,
        }
    )
    customers = pd.DataFrame(
        {
            "customer": np.arange(20_000),
            "segment": random.integers(0, 8, 20_000),
            "name": [f"customer {i}" for i in range(20_000)],
        }
    )
    total = 0.0
    for _ in range(max(1, round(18 * SCALE))):
        joined = sales.merge(customers, on="customer", how="left")
        by_segment = joined.groupby(["segment", "shop"], as_index=False)["amount"].agg(["sum", "mean", "count"])
        pivot = joined.pivot_table(index="day", columns="segment", values="amount", aggfunc="sum")
        initials = joined["name"].str.slice(0, 10).value_counts()
        total += float(by_segment["sum"].sum() + pivot.to_numpy().sum() + initials.sum())
    print("pandas", round(total))


main()
