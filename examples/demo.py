"""Trains and scores a classifier of handwritten digits, on data that comes with scikit-learn: an everyday program whose
peak of memory is not where one would look for it.

Run it as `bursar run examples/demo.py`.
"""

from typing import Any

import pandas as pd
from sklearn.datasets import load_digits
from sklearn.ensemble import RandomForestClassifier
from sklearn.metrics import accuracy_score
from sklearn.model_selection import train_test_split

SIDE = 8  # an image has 8 x 8 pixels
SHIFTS = [(down, right) for down in (-1, 0, 1) for right in (-1, 0, 1)]


def load_table() -> pd.DataFrame:
    """1,797 images, one a row: a column for each pixel, and the digit in the column `digit`."""
    table: pd.DataFrame = load_digits(as_frame=True).frame
    return table.rename(columns={"target": "digit"})


def shift(table: pd.DataFrame, down: int, right: int) -> pd.DataFrame:
    """The same images, moved by so many pixels; what enters at the edge is white."""
    pixels = table.drop(columns="digit").to_numpy().reshape(len(table), SIDE, SIDE)
    moved = pd.DataFrame(0.0, index=table.index, columns=table.columns.drop("digit"))
    canvas = moved.to_numpy().reshape(len(table), SIDE, SIDE).copy()
    canvas[:, max(down, 0) : SIDE + min(down, 0), max(right, 0) : SIDE + min(right, 0)] = pixels[
        :, max(-down, 0) : SIDE + min(-down, 0), max(-right, 0) : SIDE + min(-right, 0)
    ]
    moved[:] = canvas.reshape(len(table), SIDE * SIDE)
    return moved.assign(digit=table["digit"])


def describe(table: pd.DataFrame) -> list[dict[str, Any]]:
    """Each image as a record of its own: convenient, and the most expensive way to hold a table in Python."""
    records: list[dict[str, Any]] = table.to_dict(orient="records")
    for record in records:
        pixels = list(record.values())[: SIDE * SIDE]
        record["ink"] = sum(pixels)
        record["darkest"] = max(pixels)
        record["rows"] = [pixels[start : start + SIDE] for start in range(0, SIDE * SIDE, SIDE)]
    return records


def build_features(records: list[dict[str, Any]]) -> tuple[pd.DataFrame, pd.Series]:
    """One row an image: its pixels, its ink, its darkest pixel and how evenly its rows are filled; and its digit."""
    features = pd.DataFrame(records)
    by_row = pd.DataFrame([[sum(row) for row in rows] for rows in features.pop("rows")])
    digits = features.pop("digit")
    return features.assign(spread=by_row.std(axis=1), widest=by_row.max(axis=1)), digits


def main() -> None:
    seen, unseen = train_test_split(load_table(), test_size=0.3, random_state=0)
    moved = pd.concat([shift(seen, down, right) for down, right in SHIFTS], ignore_index=True)
    features, digits = build_features(describe(moved))
    forest = RandomForestClassifier(n_estimators=40, random_state=0).fit(features, digits)
    features, digits = build_features(describe(unseen))
    result = pd.DataFrame({"digit": digits, "right": forest.predict(features) == digits})
    hardest = result.groupby("digit")["right"].mean().sort_values().head(3)
    print(f"accuracy {accuracy_score(digits, forest.predict(features)):.3f} on {len(result)} images")
    print("hardest:", ", ".join(f"{digit} ({share:.2f})" for digit, share in hardest.items()))


if __name__ == "__main__":
    main()
