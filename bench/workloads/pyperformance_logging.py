"""logging: pyperformance's formatted log messages into a text buffer, without pyperf's worker processes."""
import importlib.util
import io
import logging
import os
from pathlib import Path

SCALE = float(os.environ.get("BENCH_SCALE", "1"))


def main() -> None:
    package = importlib.util.find_spec("pyperformance")
    assert package is not None and package.origin is not None
    path = Path(package.origin).parent / "data-files" / "benchmarks" / "bm_logging" / "run_benchmark.py"
    spec = importlib.util.spec_from_file_location("bm_logging", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    stream = io.StringIO()
    handler = logging.StreamHandler(stream=stream)
    logger = logging.getLogger("bench")
    logger.propagate = False
    logger.addHandler(handler)
    logger.setLevel(logging.WARNING)
    loops = max(1, round(46_000 * SCALE))
    module.bench_formatted_output(loops, logger, stream)
    print("logging", loops, len(stream.getvalue()))


main()
