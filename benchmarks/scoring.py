"""Scoring: faces per second of PyTorch and of OpenVINO for every network, and how far their scores agree.

    python benchmarks/scoring.py [--models xception ...] [--threads 2] [--rounds 3] [--faces 256] [--csv FILE]

Each network scores the same held-out faces at its side of the profile synthff by PyTorch in float32, by PyTorch in bfloat16
(where the processor multiplies it) and by OpenVINO in float32, in turns in one process; the median round counts, resizing
included. Trained weights and real crops are taken where this machine has a run of the network below `data/work/`, else the
start weights with batch statistics of these faces, or fabricated faces: the columns `weights` and `real crops` say so. What
differs is against PyTorch in float32: the largest difference of P(fake), the AUC's, and the share of verdicts (P over .5)
that flipped.
"""

from __future__ import annotations

import argparse
import statistics
import time
from dataclasses import replace
from pathlib import Path

import pandas as pd
import torch
from loops import some_faces
from sklearn.metrics import roc_auc_score
from torch import nn
from tqdm import tqdm

from utils.config import NETWORKS, Profile, get_profile
from utils.faces.ffpp import HELD_OUT
from utils.learn.augment import resize, to_float
from utils.learn.checkpoints import load_model
from utils.learn.dataset import FaceSet
from utils.learn.inference import openvino_network, probabilities
from utils.learn.models import Detector, create_model
from utils.learn.precision import cpu_bf16_units, cpu_kind
from utils.paths import atomic

WAYS = {"torch fp32": ("fp32", "torch"), "torch bf16": ("bf16", "torch"), "openvino fp32": ("fp32", "openvino")}


def scored_by(name: str, profile: Profile, faces: FaceSet) -> tuple[Detector, str]:
    """Return a network and where its weights come from: the newest run of it on this machine, or its start."""
    runs = sorted(profile.workspace.runs.glob(f"*-{name}-s*/result.json"), key=lambda path: path.stat().st_mtime)
    if runs:
        return load_model(runs[-1].parent), runs[-1].parent.name
    model = create_model(name, replace(profile.model(name), weights="none"))
    return spread(model, faces), "start"


@torch.no_grad()
def spread(model: Detector, faces: FaceSet) -> Detector:
    """Return an untrained network whose scores differ from face to face: its own statistics, a last layer of size 1."""
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = None  # the mean over all batches
    model.train()
    for start in range(0, min(len(faces), 128), 32):
        model(resize(to_float(faces.images(range(start, min(start + 32, len(faces))))), model.px))
    linear = model.head if isinstance(model.head, nn.Linear) else model.head[-1]
    nn.init.normal_(linear.weight, std=linear.in_features**-0.5, generator=torch.Generator().manual_seed(0))
    return model.eval()


def compare(name: str, profile: Profile, faces: FaceSet, rounds: int) -> list[dict]:
    """Return a row a way of WAYS for one network."""
    model, weights = scored_by(name, profile, faces)
    began = time.perf_counter()
    compiles = openvino_network(model, resize(to_float(faces.images(range(4))), model.px)) is not None
    ready = time.perf_counter() - began
    ways = {way: options for way, options in WAYS.items() if options[1] == "torch" or compiles}
    if not cpu_bf16_units():
        ways.pop("torch bf16")
    seconds, p = {way: [] for way in ways}, {}
    for count in range(rounds + 1):
        for way, (precision, scorer) in ways.items():
            began = time.perf_counter()
            p[way] = probabilities(model, faces, precision=precision, scorer=scorer)[:, 1].double().numpy()
            if count:  # the first round warms up
                seconds[way].append(time.perf_counter() - began)
    usual, labels, rows = p["torch fp32"], faces.labels.numpy(), []
    for way in ways:
        speed = len(faces) / statistics.median(seconds[way])
        row = {"model": name, "px": model.px, "weights": weights, "way": way, "faces/s": speed}
        row["ratio"] = statistics.median(seconds["torch fp32"]) / statistics.median(seconds[way])
        row["P apart"] = abs(p[way] - usual).max()
        row["AUC apart"] = roc_auc_score(labels, p[way]) - roc_auc_score(labels, usual)
        row["flipped"] = ((p[way] > 0.5) != (usual > 0.5)).mean()
        rows.append({**row, "first compilation, s": ready if way.startswith("openvino") else 0.0})
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description="Faces per second of PyTorch and of OpenVINO, and their agreement.")
    parser.add_argument("--models", nargs="+", choices=NETWORKS, default=list(NETWORKS))
    parser.add_argument("--threads", type=int, default=None)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--faces", type=int, default=256)
    parser.add_argument("--profile", default="repeat", help="whose crops and runs are taken, and networks' sides")
    parser.add_argument("--csv", type=Path, default=None)
    arguments = parser.parse_args()
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    profile = get_profile(arguments.profile)
    faces, real = some_faces(profile)
    splits = [split for split in HELD_OUT if split in set(faces.index["split"])]
    faces = faces.select(split=splits)
    chosen = torch.randperm(len(faces), generator=torch.Generator().manual_seed(0))[: arguments.faces].sort().values
    faces = FaceSet(faces.index.iloc[chosen.numpy()], faces.pixels)
    rows = [row for name in tqdm(arguments.models) for row in compare(name, profile, faces, arguments.rounds)]
    about = {"faces": len(faces), "real crops": real, "cpu": cpu_kind(), "threads": torch.get_num_threads()}
    table = pd.DataFrame(rows).assign(**about)
    print(table.to_string(index=False, float_format="%.4g"))
    if arguments.csv:
        with atomic(arguments.csv) as file:
            table.to_csv(file, index=False, float_format="%.4g", lineterminator="\n")


if __name__ == "__main__":
    main()
