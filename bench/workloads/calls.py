"""calls: many small functions and methods on short strings: split, join, format, count."""
import os
from collections import Counter

SCALE = float(os.environ.get("BENCH_SCALE", "1"))
WORDS = ["the", "quick", "brown", "fox", "jumps", "over", "the", "lazy", "dog", "while", "seven", "wizards", "box"]


class Line:
    def __init__(self, number: int, text: str) -> None:
        self.number = number
        self.text = text

    def words(self) -> list[str]:
        return self.text.split(" ")

    def title(self) -> str:
        return " ".join(capital(word) for word in self.words())


def capital(word: str) -> str:
    return word[:1].upper() + word[1:]


def key(line: Line, word: str) -> str:
    return f"{line.number % 50}:{word.lower()}"


def sentence(i: int) -> str:
    return " ".join(WORDS[(i * step + step) % len(WORDS)] for step in range(1, 9))


def main() -> None:
    seen: Counter[str] = Counter()
    kept: list[str] = []
    letters = 0
    for i in range(max(1, round(390_000 * SCALE))):
        line = Line(i, sentence(i))
        title = line.title()
        letters += len(title.replace("The", "A").strip())
        for word in line.words():
            seen[key(line, word)] += 1
        if i % 2 == 0:
            kept.append(title)
    print("calls", letters, len(seen), len(kept))


main()
