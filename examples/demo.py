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


def load_table() -> pd.DataFrame:
    """1,797 images of 8 x 8 pixels, one a row, with the digit in the column `digit`."""
    digits = load_digits(as_frame=True)
    return digits.frame.rename(columns={"target": "digit"})


def describe(table: pd.DataFrame) -> list[dict[str, Any]]:
    """Each image as a record of its own: convenient, and the most expensive way to hold a table in Python."""
    records: list[dict[str, Any]] = table.to_dict(orient="records")
    for record in records:
        pixels = list(record.values())[:64]
        record["ink"] = sum(pixels)
        record["darkest"] = max(pixels)
        record["rows"] = [pixels[start : start + 8] for start in range(0, 64, 8)]
    return records


def build_features(records: list[dict[str, Any]]) -> pd.DataFrame:
    """One row an image: its pixels, its ink, its darkest pixel and how evenly its rows are filled."""
    features = pd.DataFrame(records)
    by_row = pd.DataFrame([[sum(row) for row in rows] for rows in features.pop("rows")])
    return features.assign(spread=by_row.std(axis=1), widest=by_row.max(axis=1))


def main() -> None:
    features = build_features(describe(load_table()))
    target = features.pop("digit")
    train, test, train_target, test_target = train_test_split(features, target, test_size=0.3, random_state=0)
    forest = RandomForestClassifier(n_estimators=120, random_state=0)
    forest.fit(train, train_target)
    predicted = forest.predict(test)
    table = pd.DataFrame({"digit": test_target, "right": predicted == test_target})
    print(f"accuracy {accuracy_score(test_target, predicted):.3f} on {len(test)} images")
    print("hardest:", ", ".join(f"{digit} ({share:.2f})" for digit, share in hardest(table)))


def hardest(table: pd.DataFrame) -> list[tuple[object, float]]:
    shares = table.groupby("digit")["right"].mean().sort_values().head(3)
    return [(digit, float(share)) for digit, share in shares.items()]


if __name__ == "__main__":
    main()
