"""Training: a plain float32 loop against ours, by images per second and by the time to the same validation AUC.

    python benchmarks/training.py [--models xception ...] [--threads 2] [--rounds 5] [--csv FILE]
    python benchmarks/training.py --to-auc [--models ...] [--seeds 0 1 2] [--csv FILE]      resumes; an hour and more
    python benchmarks/training.py --device cuda [--models ...] [--csv FILE]

*Plain* is the network as its library gives it: float32, NCHW, memory-efficient swish, the library's own depthwise
gradients, the C library's usual memory. *Ours* is what `create_model` and `fit` use: channels last, SiLU, quick depthwise
gradients, freed memory kept, and the precision that the probe finds. The first table runs plain, plain again and ours in
turns in one process on the same images; plain against plain again is the noise. `--to-auc` takes MLPerf's measure: the
seconds of training until the averaged weights first reach the validation AUC at which the plain loop ends (its median
over seeds). `--device cuda` runs each network at its FF++ side with batches, H.264 noise and AMP, and again on one batch
that lies on the GPU: what the first takes longer, the GPU waits for data.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import resource
import statistics
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from pathlib import Path

import pandas as pd
import torch
from loops import LOOPS, NOTHING, Held, curve, finish, plain, some_faces
from measured import require_alike
from torch.utils.flop_counter import FlopCounterMode
from tqdm import tqdm

from utils.config import NETWORKS, ModelConfig, Profile, get_profile
from utils.learn.loop import Fit
from utils.learn.memory import keep_freed_memory
from utils.learn.noisy_student import NoisedLabels
from utils.learn.plans import planned, reading_workers
from utils.learn.precision import PRECISIONS, device_name, pick_device
from utils.paths import atomic

STEPS = 2  # optimiser steps of one round
IN_TURNS = ("plain", "plain again", "ours")
TO_AUC = ("plain", "ours", "ours, float32", "ours, fast")
KEY = ["model", "loop", "seed"]  # of a row of --to-auc


def matrix_rate(precision: str, device: torch.device) -> float:
    """Return the GFLOP/s of a product of two square matrices, the best of five: what the machine can do at most."""
    side = 8192 if device.type == "cuda" else 1024
    one = torch.rand(side, side, dtype=PRECISIONS[precision], device=device)
    seconds = []
    for _ in range(6):
        began = time.perf_counter()
        (one @ one)[0, 0].item()
        seconds.append(time.perf_counter() - began)
    return 2 * side**3 / min(seconds[1:]) / 1e9


def step_gflops(name: str, config: ModelConfig) -> float:
    """Return the billions of operations of one image's forward and backward pass, by the network's own layers.

    Counted forward, and twice that backward: torch's counter takes backward passes of depthwise layers for dense ones.
    """
    model, counter = plain(name, config).eval(), FlopCounterMode(display=False)
    with counter, torch.no_grad():
        model(torch.rand(1, 3, config.px, config.px))
    return 3 * counter.get_total_flops() / 1e9


def in_turns(name: str, rounds: int, profile: Profile) -> dict:
    """Return the speed of the loops IN_TURNS on one network: images/s, shares of the matrix rate, page faults a step."""
    config, device = replace(profile.model(name), weights="none"), pick_device()
    torch.manual_seed(0)
    images = torch.rand(config.batch_size, 3, config.px, config.px, device=device)
    labels = torch.arange(config.batch_size, device=device) % 2
    fits = {label: LOOPS[label].fit(name, config, profile.train, Held(images, labels)) for label in IN_TURNS}
    seconds, faults = ({label: [] for label in IN_TURNS} for _ in range(2))
    for count in range(rounds + 1):
        for label, fit in fits.items():
            keep_freed_memory(LOOPS[label].ours)
            took, missed = timed(fit, NOTHING)
            if count:  # the first round warms up
                seconds[label].append(took), faults[label].append(missed)
    gflops, row = step_gflops(name, config), {"model": name, "px": config.px, "batch": config.batch_size}
    row["precision"] = fits["ours"].shared.precision
    for label, fit in fits.items():
        speed = STEPS * config.batch_size / statistics.median(seconds[label])
        row[label] = speed
        row[f"{label}: of matrix rate"] = speed * gflops / matrix_rate(fit.shared.precision, device)
        row[f"{label}: faults"] = statistics.median(faults[label]) / STEPS
    row |= {"again / plain": row["plain again"] / row["plain"], "ours / plain": row["ours"] / row["plain"]}
    return {**row, "machine": device_name(device)}


def timed(fit: Fit, steps: Iterator, count: int = STEPS) -> tuple[float, int]:
    """Return the seconds and the minor page faults that some optimiser steps take."""
    faults, began = resource.getrusage(resource.RUSAGE_SELF).ru_minflt, time.perf_counter()
    for _ in range(count):
        fit.step(*next(steps), "benchmark")
    finish(fit.device)
    return time.perf_counter() - began, resource.getrusage(resource.RUSAGE_SELF).ru_minflt - faults


def on_gpu(name: str, rounds: int, profile: Profile) -> dict:
    """Return images/s of a network with batches and H.264 noise, on one batch that is there already, and the wait's share."""
    config, (faces, real), device = replace(profile.model(name), weights="none"), some_faces(profile), pick_device()
    train, student = faces.select(split="train"), profile.student_of("student_compression")
    objective = NoisedLabels(train, config, profile.train, torch.Generator().manual_seed(0), student=student, clean="c23")
    fit = LOOPS["ours"].fit(name, config, profile.train, objective)
    steps = planned(objective, STEPS * (rounds + 1), reading_workers(profile.train.workers, device), device)
    with_data = [timed(fit, steps)[0] for _ in range(rounds + 1)][1:]
    images, labels = torch.rand(config.batch_size, 3, config.px, config.px), train.labels[: config.batch_size]
    fit.objective = Held(images.to(device), labels.to(device))
    without = [timed(fit, NOTHING)[0] for _ in range(rounds + 1)][1:]
    seconds, least = statistics.median(with_data), statistics.median(without)
    row = {"model": name, "px": config.px, "batch": config.batch_size, "precision": fit.shared.precision, "real crops": real}
    row |= {"images/s": STEPS * config.batch_size / seconds, "images/s, data there": STEPS * config.batch_size / least}
    return {**row, "waits": max(0.0, 1 - least / seconds), "device": device_name(device)}


def run_of(name: str, label: str, seed: int, every: int, threads: int | None, profile_name: str) -> dict:
    """Train once for --to-auc; return its row, with the curve (steps, seconds, AUC) as JSON."""
    torch.set_num_threads(threads or torch.get_num_threads())
    profile = get_profile(profile_name)
    (faces, real), loop = some_faces(profile), LOOPS[label]
    config = loop.config(name, profile.model(name))
    train, val = (faces.select(split=split) for split in ("train", "val"))
    points = [
        (step, round(seconds, 2), round(auc, 5))
        for step, seconds, auc in curve(loop, name, config, profile.train, train, val, seed, every)
    ]
    about = {"real crops": real, "machine": device_name(pick_device()), "threads": torch.get_num_threads()}
    ended = {"steps": points[-1][0], "seconds": points[-1][1], "end_auc": points[-1][2]}
    return {**dict(zip(KEY, (name, label, seed), strict=True)), **about, "batch": config.batch_size, **ended,
            "curve": json.dumps(points), "every": every}  # fmt: skip


def to_auc(arguments: argparse.Namespace, profile_name: str) -> pd.DataFrame:
    """Return a row a network, loop and seed; those that the file of runs beside the table has already are not run again."""
    file = arguments.csv and arguments.csv.with_name(f"{arguments.csv.stem}_runs.csv")
    table = pd.read_csv(file) if file and file.is_file() else pd.DataFrame(columns=KEY)
    if len(table):
        table["every"] = [json.loads(points)[0][0] for points in table["curve"]]
    about = {"machine": device_name(pick_device()), "threads": arguments.threads or torch.get_num_threads()}
    require_alike(table, file, **about, every=arguments.every)
    done = set(table[KEY].itertuples(index=False, name=None))
    wanted = [(name, loop, seed) for name in arguments.models for seed in arguments.seeds for loop in arguments.loops]
    for key in tqdm([key for key in wanted if key not in done], desc="runs"):
        with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as fresh:  # memory settings stay in a process
            row = fresh.submit(run_of, *key, arguments.every, arguments.threads, profile_name).result()
        table = pd.concat([table, pd.DataFrame([row])], ignore_index=True)
        write(table.drop(columns="every"), file)
    return table


def seconds_to(points: list, target: float) -> float:
    """Return the seconds of training at the first evaluation that reaches an AUC; infinity where none does."""
    return next((seconds for _, seconds, auc in points if auc >= target), float("inf"))


def summary(table: pd.DataFrame) -> pd.DataFrame:
    """Return a row a network and loop: the target, the median over seeds of the time to it, and how often plain's that is."""
    rows = []
    for name, runs in table.groupby("model", sort=False):
        plain_runs = runs[runs["loop"] == "plain"]
        if plain_runs.empty:
            continue
        target = plain_runs["end_auc"].median()
        for loop, some in runs.groupby("loop", sort=False):
            took = statistics.median(seconds_to(json.loads(points), target) for points in some["curve"])
            about = {"model": name, "loop": loop, "machine": some["machine"].iloc[0], "seeds": len(some)}
            about |= {"target": target, "end_auc": some["end_auc"].median()}
            rows.append({**about, "seconds": took, "all_steps": some["seconds"].median()})
        last = [row for row in rows if row["model"] == name]
        for row in last:
            row["gain"] = last[0]["seconds"] / row["seconds"] if last[0]["loop"] == "plain" else float("nan")
    return pd.DataFrame(rows)


def write(table: pd.DataFrame, path: Path | None) -> None:
    if path:
        with atomic(path) as file:
            table.to_csv(file, index=False, float_format="%.5g", lineterminator="\n")


def main() -> None:
    parser = argparse.ArgumentParser(description="A plain training loop and ours.")
    parser.add_argument("--models", nargs="+", choices=NETWORKS, default=None)
    parser.add_argument("--threads", type=int, default=None)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--csv", type=Path, default=None)
    parser.add_argument("--profile", default=None, help="default: synthff, with --device cuda ffpp, with --to-auc repeat")
    parser.add_argument("--device", choices=("cpu", "cuda"), default=None)
    parser.add_argument("--to-auc", action="store_true")
    parser.add_argument("--seeds", nargs="+", type=int, default=(0, 1, 2), help="of --to-auc")
    parser.add_argument("--loops", nargs="+", choices=LOOPS, default=TO_AUC, help="of --to-auc")
    parser.add_argument("--every", type=int, default=5, help="steps between evaluations of --to-auc")
    arguments = parser.parse_args()
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    if arguments.device == "cuda" and not torch.cuda.is_available():
        parser.exit(0, f"skipped: no CUDA device is at hand (torch {torch.__version__})\n")
    if arguments.to_auc:
        arguments.models = arguments.models or ("efficientnet-lite0", "xception")  # of the main job
        table = summary(to_auc(arguments, arguments.profile or "repeat"))
        print(table.round(3).to_string(index=False))
        return write(table, arguments.csv)
    measure, usual = (on_gpu, "ffpp") if arguments.device == "cuda" else (in_turns, "synthff")
    profile = get_profile(arguments.profile or usual)
    table = pd.DataFrame([measure(name, arguments.rounds, profile) for name in tqdm(arguments.models or list(NETWORKS))])
    print(table.round(3).to_string(index=False))
    write(table, arguments.csv)


if __name__ == "__main__":
    main()
