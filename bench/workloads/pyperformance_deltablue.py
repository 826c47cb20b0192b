"""deltablue: pyperformance's constraint solver, as it ships, without pyperf's worker processes."""
import importlib.util
import os
from pathlib import Path

SCALE = float(os.environ.get("BENCH_SCALE", "1"))


def main() -> None:
    package = importlib.util.find_spec("pyperformance")
    assert package is not None and package.origin is not None
    path = Path(package.origin).parent / "data-files" / "benchmarks" / "bm_deltablue" / "run_benchmark.py"
    spec = importlib.util.spec_from_file_location("bm_deltablue", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    rounds = max(1, round(27 * SCALE))
    for _ in range(rounds):
        module.delta_blue(3000)
    print("deltablue", rounds)


main()
