"""Training speed of every network: a plain float32 loop against ours, in turns in one process.

    python benchmarks/training.py [--models xception ...] [--threads 2] [--rounds 5] [--csv FILE]

*Plain* is the network as its library gives it: float32, NCHW, memory-efficient swish, the library's own depthwise
gradients. *Ours* is what `create_model` and `fit` use: channels last, SiLU, quick depthwise gradients, and bfloat16
where the processor multiplies it natively. Both see the same images; the best round of each counts.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import replace
from pathlib import Path

import pandas as pd
import torch
import torch.nn.functional as F
from tqdm import tqdm

from utils.config import NETWORKS, get_profile
from utils.learn.fast_depthwise import restore
from utils.learn.models import Detector, create_model, pick_device, precision_that_runs
from utils.paths import atomic

STEPS = 2  # optimiser steps of one round


def plain(name: str, config) -> Detector:
    """Return the network without any of our changes for speed."""
    model = create_model(name, config)
    restore(model)
    if hasattr(model.network, "set_swish"):
        model.network.set_swish(memory_efficient=True)
    return model.to(memory_format=torch.contiguous_format)


def round_of(model: Detector, images: torch.Tensor, labels: torch.Tensor, bf16: bool) -> float:
    """Return the seconds that `STEPS` forward and backward passes and optimiser steps take."""
    optimiser = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=True)
    model.train()
    began = time.perf_counter()
    for _ in range(STEPS):
        with torch.autocast(images.device.type, dtype=torch.bfloat16, enabled=bf16):
            loss = F.cross_entropy(model(images), labels)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        optimiser.step()
    loss.item()  # a GPU has finished now
    return time.perf_counter() - began


def compare(name: str, rounds: int) -> dict:
    """Return images per second of both loops for one network."""
    config = replace(get_profile("synthff").model(name), weights="none")
    device = pick_device()
    bf16 = precision_that_runs("auto", device, config.px) == "bf16"
    torch.manual_seed(0)
    images = torch.rand(config.batch_size, 3, config.px, config.px, device=device)
    labels = torch.arange(config.batch_size, device=device) % 2
    loops = {"plain": (plain(name, config).to(device), False), "ours": (create_model(name, config).to(device), bf16)}
    best = dict.fromkeys(loops, float("inf"))
    for count in range(rounds + 1):
        for loop, (model, low) in loops.items():
            seconds = round_of(model, images, labels, low)
            if count:  # the first round warms up
                best[loop] = min(best[loop], seconds)
    speed = {loop: STEPS * config.batch_size / seconds for loop, seconds in best.items()}
    about = {"model": name, "px": config.px, "batch": config.batch_size, "bf16": bf16}
    return {**about, **speed, "gain": speed["ours"] / speed["plain"]}


def main() -> None:
    parser = argparse.ArgumentParser(description="Images per second of a plain loop and of ours.")
    parser.add_argument("--models", nargs="+", choices=NETWORKS, default=list(NETWORKS))
    parser.add_argument("--threads", type=int, default=None)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--csv", type=Path, default=None)
    arguments = parser.parse_args()
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    table = pd.DataFrame([compare(name, arguments.rounds) for name in tqdm(arguments.models)])
    print(table.round(2).to_string(index=False))
    if arguments.csv:
        with atomic(arguments.csv) as file:
            table.round(3).to_csv(file, index=False)


if __name__ == "__main__":
    main()
