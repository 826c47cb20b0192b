"""async_tree: pyperformance's tree of asyncio tasks (variant "none"), without pyperf's worker processes."""
import asyncio
import importlib.util
import os
from pathlib import Path

SCALE = float(os.environ.get("BENCH_SCALE", "1"))


def main() -> None:
    package = importlib.util.find_spec("pyperformance")
    assert package is not None and package.origin is not None
    path = Path(package.origin).parent / "data-files" / "benchmarks" / "bm_async_tree" / "run_benchmark.py"
    spec = importlib.util.spec_from_file_location("bm_async_tree", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    rounds = max(1, round(3 * SCALE))
    for _ in range(rounds):
        asyncio.run(module.NoneAsyncTree().run())
    print("async_tree", rounds)


main()
