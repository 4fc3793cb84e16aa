"""Who is in SynthFF: people of whom no two look alike, in pairs, and the pairs dealt to the splits."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
from joblib import Parallel, delayed
from scipy.spatial.distance import pdist
from tqdm import tqdm

from utils.config import SynthFFConfig
from utils.paths import atomic
from utils.synthff.person import Person
from utils.synthff.scene import STYLES
from utils.synthff.shot import renderer_for
from utils.synthff.similarity import PORTRAIT, embedding, portrait, same_person_distances

DLIB_SAME = 0.6  # dlib's own threshold for photographs (King 2017)
MEASURED = 64  # people behind the distances in the data card


@dataclass(frozen=True)
class Target:
    """One identity of the data set and the partner whose expression its fake takes over."""

    video_id: str
    source_id: str
    split: str
    seed: int  # of the person, and of scene and motion drawn for them
    source_seed: int
    style: str = "plain"
    extra: str = "none"

    @property
    def fake_id(self) -> str:
        return f"{self.video_id}_{self.source_id}"


def single_thread() -> None:
    """Keep every library of this process on one thread: the build runs one process a core."""
    torch.set_num_threads(1)
    cv2.setNumThreads(1)


def candidate_seed(config: SynthFFConfig, k: int) -> int:
    """Return the seed of the `k`th person who may be chosen; below 0 are people outside the data set."""
    return config.seed * 100_000 + k


def _embed(seed: int) -> list[float] | None:
    single_thread()
    renderer = renderer_for(1)
    renderer.resize(PORTRAIT, PORTRAIT)
    person = Person(seed)
    renderer.set_parts(person.parts)
    renderer.set_backdrop(np.full((64, 64, 3), 120, np.uint8))
    found = embedding(portrait(renderer, person))
    return None if found is None else found.tolist()


def choose_people(path: Path, config: SynthFFConfig, count: int, jobs: int, batch: int = 64) -> list[int]:
    """Return `count` person seeds of whom no two are closer than `look_alike` in dlib's embedding; kept in `path`."""
    if path.is_file():
        kept = json.loads(path.read_text())
        if (kept["seed"], kept["look_alike"]) == (config.seed, config.look_alike) and len(kept["seeds"]) >= count:
            return kept["seeds"][:count]
    chosen, vectors, tried = [], np.zeros((0, 128)), 0
    with tqdm(total=count, desc="people") as bar:
        while len(chosen) < count:
            candidates = [candidate_seed(config, tried + i) for i in range(batch)]
            found = Parallel(n_jobs=jobs)(delayed(_embed)(seed) for seed in candidates)
            for seed, vector in zip(candidates, found, strict=True):
                if len(chosen) == count:
                    break
                tried += 1
                if vector is not None and np.all(np.linalg.norm(vectors - vector, axis=1) >= config.look_alike):
                    chosen.append(seed)
                    vectors = np.vstack([vectors, vector])
                    bar.update()
    with atomic(path) as temporary:
        kept = dict(seed=config.seed, look_alike=config.look_alike, tried=tried, seeds=chosen)
        temporary.write_text(json.dumps(kept) + "\n")
    return chosen


def measure_people(path: Path, config: SynthFFConfig, jobs: int) -> None:
    """Add to `path` how far apart different people and pictures of one person are in dlib's embedding, for the card."""
    kept = json.loads(path.read_text())
    if "same_max" in kept:
        return
    drawn = Parallel(n_jobs=jobs)(delayed(_embed)(candidate_seed(config, i)) for i in range(MEASURED))
    distances = pdist(np.array([vector for vector in drawn if vector is not None]))
    same = same_person_distances(renderer_for(1), kept["seeds"][:12])
    kept |= dict(
        close_share=float((distances < DLIB_SAME).mean()), same_pairs=len(same), same_median=float(np.median(same)),
        same_below=float((same < config.look_alike).mean()), same_max=float(same.max()),
    )  # fmt: skip
    with atomic(path) as temporary:
        temporary.write_text(json.dumps(kept) + "\n")


def plan(config: SynthFFConfig, seeds: list[int]) -> tuple[list[Target], dict[str, list[list[str]]]]:
    """Pair the people and deal the pairs to the splits; returns every target and the splits as FF++ writes them.

    The first pairs are dealt by lot to train, val and test; the held-back `test_hard` has the last ones, and its own style.
    """
    ids = [f"{i:03d}" for i in range(len(seeds))]
    pairs = [(i, i + 1) for i in range(0, len(ids), 2)]
    plain = sum(config.pairs.values())
    deal = np.random.default_rng(config.seed).permutation(plain)
    targets, splits, start = [], {}, 0
    for split, count in config.pairs.items():
        splits[split] = [pairs[k] for k in sorted(deal[start : start + count])]
        start += count
    splits |= {split: pairs[plain : plain + count] for split, count in config.hard_pairs.items()}
    for split, drawn in splits.items():
        style = "hard" if split in config.hard_pairs else "plain"
        extras = STYLES[style].extras
        for a, b in drawn:
            for x, y in ((a, b), (b, a)):
                extra = extras[x % len(extras)]
                targets.append(Target(ids[x], ids[y], split, seeds[x], seeds[y], style, extra))
    named = {split: [[ids[a], ids[b]] for a, b in drawn] for split, drawn in splits.items()}
    return sorted(targets, key=lambda target: target.video_id), named
