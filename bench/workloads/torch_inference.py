"""torch: a small convolutional network answers batch after batch on the CPU, in one thread."""
import os
import sys

sys.path.append(os.environ["BENCH_TORCH"])
import torch  # noqa: E402

SCALE = float(os.environ.get("BENCH_SCALE", "1"))


def main() -> None:
    torch.set_num_threads(1)
    torch.manual_seed(4)
    net = torch.nn.Sequential(
        torch.nn.Conv2d(3, 16, 3, padding=1),
        torch.nn.ReLU(),
        torch.nn.MaxPool2d(2),
        torch.nn.Conv2d(16, 32, 3, padding=1),
        torch.nn.ReLU(),
        torch.nn.AdaptiveAvgPool2d(4),
        torch.nn.Flatten(),
        torch.nn.Linear(512, 10),
    ).eval()
    answers = 0
    with torch.inference_mode():
        for _ in range(max(1, round(600 * SCALE))):
            batch = torch.rand(8, 3, 32, 32)
            answers += int(net(batch).argmax(dim=1).sum())
    print("torch", answers)


main()
