"""freeze() of torch's modules (CPU): in-place operations fault, and are told; see test_native_torch.py for where it
runs."""

from __future__ import annotations

import importlib.util
import json
import signal
from pathlib import Path

import pytest
from running import Run

pytestmark = pytest.mark.skipif(importlib.util.find_spec("torch") is None, reason="torch is not installed")

NET = """
import copy, json, sys, torch, bursar
torch.manual_seed(1)
from torch.nn import BatchNorm1d, LSTM, Linear, ReLU
net = torch.nn.Sequential(Linear(8, 16), ReLU(), BatchNorm1d(16), LSTM(16, 4)).eval()
x = torch.randn(5, 8)
want = net(x)[0].detach().clone()
"""


def test_a_module_computes_what_it_did(execute: Run, python: str) -> None:
    done = execute(
        python, "-W", "error", "-c", NET + "report = bursar.freeze(net)\n"
        "assert torch.equal(net(x)[0], want)\n"
        "names = [one.name for one in report.frozen]\n"
        "assert names[:2] == ['0.weight', '0.bias'] and '2.running_mean' in names and '3.weight_hh_l0' in names\n"
        "assert not report.left and report.verify() == sum(t.nbytes for t in net.state_dict().values())\n"
        "half = torch.nn.Linear(4, 4).bfloat16(); before = half.weight.clone(); bursar.freeze(half)\n"
        "assert half.weight.dtype == torch.bfloat16 and torch.equal(half.weight, before)\n"
        "tied = torch.nn.ModuleDict({'a': torch.nn.Linear(3, 3), 'b': torch.nn.Linear(3, 3)})\n"
        "tied['b'].weight = tied['a'].weight\n"
        "assert [one.name for one in bursar.freeze(tied).frozen] == ['a.weight', 'a.bias', 'b.bias']\n"
        "assert tied['b'].weight is tied['a'].weight\n"
        "other = copy.deepcopy(net); other[0].weight.data.add_(1)\n"
        "assert bursar.thaw(net) == report.frozen_bytes\n"
        "net[0].weight.data.add_(1)\n"
        "net.train(); torch.optim.SGD(net.parameters(), 0.1); net(x)[0].sum().backward()\n",
        timeout=600,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


def test_what_is_left(execute: Run, python: str) -> None:
    done = execute(
        python, "-c", "import json, numpy, torch, bursar\n"
        "lin = torch.nn.Linear(4, 4); flat = lin.weight.detach().view(-1)\n"
        "model = {'lin': lin, 'sparse': torch.eye(3).to_sparse(), 'numpy': torch.from_numpy(numpy.ones(3)),\n"
        "         'meta': torch.empty(3, device='meta'), 'result': (torch.ones(2, requires_grad=True) * 2)}\n"
        "report = bursar.freeze(model)\n"
        "flat[0] = 5\n"
        "assert lin.weight.flatten()[0] == 5\n"
        "left = {one.name: (one.reason, one.bytes) for one in report.left}\n"
        "print(json.dumps([left, [one.name for one in report.frozen]]))\n",
        timeout=600,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    left, frozen = json.loads(done.stdout)
    assert frozen == ["['lin'].bias"]
    said = {"['lin'].weight": ("others hold it", 64), "['sparse']": ("sparse", 60), "['numpy']": ("not torch's own",
    24),
            "['meta']": ("on meta", 12), "['result']": ("keeps track", 8)}  # fmt: skip
    assert left.keys() == said.keys()
    for name, (why, size) in said.items():
        assert why in left[name][0] and left[name][1] == size, (name, left[name])


@pytest.mark.parametrize(
    "write", ["net[0].weight.data.add_(1)", "torch.nn.init.zeros_(net[0].weight)",
              "net.train(); net(x)[0].sum().backward(); torch.optim.SGD(net[:1].parameters(), 0.1).step()"]
)  # fmt: skip
def test_an_operation_in_place_faults_and_is_told(execute: Run, python: str, tmp_path: Path, write: str) -> None:
    script = tmp_path / "train.py"
    freeze = "bursar.freeze(net[0])\n"  # the rest of it counts batches as it trains
    script.write_text(NET + freeze + f"def step():\n    {write}\nstep()\n")
    done = execute(python, script, timeout=600)
    assert done.returncode == -signal.SIGSEGV
    first = next(line for line in done.stderr.splitlines() if line.startswith("bursar: "))
    assert first.startswith("bursar: a write to frozen memory: byte 0 of the 512 of weight")
    assert f'File "{script}", line 10 in step' in done.stderr
    assert "libtorch_cpu.so" in done.stderr


def test_spawned_workers_share_a_module(execute: Run, python: str, tmp_path: Path) -> None:
    script = tmp_path / "workers.py"
    script.write_text(
        "import json, re, torch, bursar\n"
        "import torch.multiprocessing as multiprocessing\n"
        "def sums():\n"
        "    inside, out = False, {}\n"
        "    for line in open('/proc/self/smaps'):\n"
        "        if re.match('[0-9a-f]+-', line): inside = 'memfd:bursar-frozen' in line\n"
        "        elif inside and line.split()[0] in ('Rss:', 'Pss:'): out[line.split()[0]] = int(line.split()[1])\n"
        "    return out\n"
        "def work(net, queue, barrier):\n"
        "    size, same = bursar.verify(net), net.tied is net.weight\n"
        "    barrier.wait(); facts = sums(); barrier.wait()\n"
        "    queue.put([size, float(net.weight.detach().sum()), same, net.weight.requires_grad, facts])\n"
        "if __name__ == '__main__':\n"
        "    net = torch.nn.Linear(1024, 1024); torch.nn.init.ones_(net.weight); net.tied = net.weight\n"
        "    bursar.freeze(net)\n"
        "    context = multiprocessing.get_context('spawn')\n"
        "    queue, barrier = context.Queue(), context.Barrier(3)\n"
        "    workers = [context.Process(target=work, args=(net, queue, barrier)) for _ in range(3)]\n"
        "    for worker in workers: worker.start()\n"
        "    print(json.dumps([queue.get(timeout=500) for _ in workers]))\n"
        "    for worker in workers: worker.join()\n"
    )
    done = execute(python, script, timeout=600)
    assert done.returncode == 0, done.stderr
    for size, total, same, grad, facts in json.loads(done.stdout):
        assert (size, total, same, grad) == ((1 << 22) + 4096, 1 << 20, True, True)
        assert facts["Rss:"] >= 4096 and facts["Pss:"] <= facts["Rss:"] // 4 + 8
