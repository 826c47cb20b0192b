"""threads: four threads, each with json, strings and objects of its own."""
import json
import os
import threading

SCALE = float(os.environ.get("BENCH_SCALE", "1"))
THREADS = 4


class Point:
    def __init__(self, x: int, y: int) -> None:
        self.x = x
        self.y = y
        self.name = f"{x}/{y}"


def work(number: int, results: list[int]) -> None:
    records = [{"id": i, "name": f"thread {number} record {i}", "values": [i, i + 0.5, str(i)]} for i in range(3000)]
    total = 0
    for round_ in range(max(1, round(70 * SCALE))):
        text = json.dumps(records)
        total += len(json.loads(text))
        points = [Point(i, round_) for i in range(8000)]
        total += sum(len(point.name) for point in points)
        total += len(" ".join(text.split('"')))
    results[number] = total


def main() -> None:
    results = [0] * THREADS
    threads = [threading.Thread(target=work, args=(number, results)) for number in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    print("threads", sum(results))


main()
