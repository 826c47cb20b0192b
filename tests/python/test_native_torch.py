"""torch (CPU): what its operations allocate, after they released the GIL, is on the line that called them.

torch is too large for `make test` to install: `make check` does (step torch), and so runs these."""

import importlib.util
import json

import pytest
from books import Keep, keep

__all__ = ["keep"]
pytestmark = pytest.mark.skipif(importlib.util.find_spec("torch") is None, reason="torch is not installed")

MIB = 1 << 20


def test_tensors_by_line(keep: Keep) -> None:
    books = keep(
        "import torch\n"
        "def forward(model, x):\n"
        "    h = x @ model  # @hidden\n"
        "    return torch.relu(h)  # @out\n"
        "def main():\n"
        "    w = torch.randn(2048, 2048)  # @weights\n"
        "    xs = [torch.zeros(1024, 2048) for _ in range(4)]  # @inputs\n"
        "    return w, xs, [forward(w, x) for x in xs]\n"
        "kept = main()\n",
        "--domains", "all", timeout=600,
    )  # fmt: skip
    held = {mark: books.sum(mark, "live_bytes", "malloc") for mark in ("weights", "inputs", "out", "hidden")}
    assert 16 * MIB <= held["weights"] < 17 * MIB
    assert 32 * MIB <= held["inputs"] < 33 * MIB
    assert 32 * MIB <= held["out"] < 33 * MIB
    assert held["hidden"] < 8 * MIB  # what the first product sets up for itself
    assert books.sum("hidden", "allocated_bytes", "malloc") >= 32 * MIB


def test_a_training_step_is_unchanged(keep: Keep) -> None:
    """Gradients come from threads of torch's own, which know no Python."""
    program = (
        "import torch\n"
        "torch.manual_seed(1)\n"
        "net = torch.nn.Sequential(torch.nn.Linear(256, 512), torch.nn.ReLU(), torch.nn.Linear(512, 10))\n"
        "best = torch.optim.Adam(net.parameters())\n"
        "x, y = torch.randn(64, 256), torch.randint(0, 10, (64,))\n"
        "for step in range(20):\n"
        "    best.zero_grad()\n"
        "    loss = torch.nn.functional.cross_entropy(net(x), y)\n"
        "    loss.backward()  # @backward\n"
        "    best.step()  # @step\n"
        "print(f'{loss.item():.6f}')\n"
    )
    plain = keep(program, "--domains", "python", timeout=600)
    books = keep(program, "--domains", "all", timeout=600)
    assert books.done.stdout == plain.done.stdout
    assert books.facts["outside_allocations"] > 0


@pytest.mark.parametrize("domains", ["python", "all"])
def test_resident_memory_is_explained(keep: Keep, domains: str) -> None:
    """While a training step runs, in another thread, and at the end."""
    books = keep(
        "import atexit, bursar, json, threading, torch\n"
        "shares = []\n"
        "def look():\n"
        "    b = bursar.balance()\n"
        "    lines = sum(line.bytes or 0 for line in b.lines)\n"
        "    shares.append((b.rss_bytes - lines - b.unexplained_bytes, b.unexplained_bytes / b.rss_bytes))\n"
        "def watch():\n"
        "    for _ in range(10):\n"
        "        begun.wait()\n"
        "        begun.clear()\n"
        "        look()\n"
        "        looked.set()\n"
        "atexit.register(lambda: print(json.dumps(shares)))\n"
        "atexit.register(look)\n"
        "net = torch.nn.Sequential(torch.nn.Linear(1024, 2048), torch.nn.ReLU(), torch.nn.Linear(2048, 10))\n"
        "best = torch.optim.Adam(net.parameters())\n"
        "begun, looked = threading.Event(), threading.Event()\n"
        "watcher = threading.Thread(target=watch)\n"
        "watcher.start()\n"
        "for _ in range(10):\n"
        "    begun.set()\n"
        "    best.zero_grad()\n"
        "    net(torch.randn(64, 1024)).square().sum().backward()\n"
        "    best.step()\n"
        "    looked.wait()\n"
        "    looked.clear()\n"
        "watcher.join()\n",
        "--domains", domains, timeout=600,
    )  # fmt: skip
    shares = json.loads(books.done.stdout.splitlines()[-1])
    assert len(shares) == 11
    assert all(rest == 0 and share < 0.02 for rest, share in shares), shares
