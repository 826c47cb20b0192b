"""sklearn: a random forest trained and scored on a table of numbers, in one thread."""
import os

from sklearn.datasets import make_classification
from sklearn.ensemble import RandomForestClassifier
from sklearn.model_selection import train_test_split

SCALE = float(os.environ.get("BENCH_SCALE", "1"))


def main() -> None:
    x, y = make_classification(n_samples=8000, n_features=24, n_informative=12, random_state=3)
    x_train, x_test, y_train, y_test = train_test_split(x, y, random_state=3)
    forest = RandomForestClassifier(n_estimators=max(1, round(250 * SCALE)), random_state=3, n_jobs=1)
    forest.fit(x_train, y_train)
    print("sklearn", round(forest.score(x_test, y_test), 4))


main()
