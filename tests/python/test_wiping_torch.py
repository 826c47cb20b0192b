"""A training step gives what it gives, whatever is wiped.  torch is too large for make test: make check has it."""

import json
from pathlib import Path

import pytest
from running import Run

pytest.importorskip("torch")

TRAIN = """import hashlib, json, torch
torch.manual_seed(3)
torch.set_num_threads(1)
model = torch.nn.Sequential(torch.nn.Linear(64, 128), torch.nn.ReLU(), torch.nn.Linear(128, 10))
optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
losses = []
for _ in range(25):
    x, y = torch.randn(256, 64), torch.randint(0, 10, (256,))
    loss = torch.nn.functional.cross_entropy(model(x), y)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    losses.append(loss.item())
digest = hashlib.sha256()
for parameter in model.parameters():
    digest.update(parameter.detach().numpy().tobytes())
print(json.dumps([losses, digest.hexdigest()]))
"""


def test_a_training_step(execute: Run, command: str, python: str, tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text(TRAIN)
    (tmp_path / "scoped.py").write_text(
        "import bursar\nwith bursar.scope('train', wipe=True):\n"
        + "".join(f"    {line}\n" for line in TRAIN.splitlines())
    )
    plain = execute(python, "train.py")
    assert plain.returncode == 0 and len(json.loads(plain.stdout)[0]) == 25
    assert execute(command, "run", "--wipe", "train.py").stdout == plain.stdout
    assert execute(python, "scoped.py").stdout == plain.stdout
