"""Who is in SynthFF: people of whom no two look alike, in pairs, and the pairs dealt to the splits."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
from joblib import Parallel, delayed
from scipy.spatial.distance import cdist, pdist
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
    renderer: str = "warm_start"  # of the fake: a key of SynthFFConfig.renderers

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


def _embed(seed: int, release: int) -> list[float] | None:
    single_thread()
    renderer = renderer_for(1)
    renderer.resize(PORTRAIT, PORTRAIT)
    person = Person(seed, release)
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
    chosen, tried = [], 0
    vectors = np.zeros((0, 128))
    with tqdm(total=count, desc="people") as bar:
        while len(chosen) < count:
            candidates = [candidate_seed(config, tried + i) for i in range(batch)]
            for seed, vector in zip(candidates, _embeddings(candidates, config, jobs), strict=True):
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


def _embeddings(seeds: Sequence[int], config: SynthFFConfig, jobs: int) -> list[list[float] | None]:
    return Parallel(n_jobs=jobs)(delayed(_embed)(seed, config.release) for seed in seeds)


def measure_people(path: Path, config: SynthFFConfig, jobs: int) -> None:
    """Add to `path` how far apart different people and pictures of one person are in dlib's embedding, for the card."""
    kept = json.loads(path.read_text())
    if "same_max" in kept:
        return
    drawn = _embeddings([candidate_seed(config, i) for i in range(MEASURED)], config, jobs)
    distances = pdist(_found(drawn))
    same = same_person_distances(renderer_for(1), kept["seeds"][:12], release=config.release)
    kept |= dict(
        close_share=float((distances < DLIB_SAME).mean()), same_pairs=len(same), same_median=float(np.median(same)),
        same_below=float((same < config.look_alike).mean()), same_max=float(same.max()),
    )  # fmt: skip
    with atomic(path) as temporary:
        temporary.write_text(json.dumps(kept) + "\n")


def measure_pool(path: Path, config: SynthFFConfig, pool: Sequence[int], others: Sequence[int], jobs: int) -> None:
    """Write to `path` how near people of the pool come to other people, `MEASURED` of them asked, for the card."""
    if path.is_file():
        return
    asked, held_out = (_found(_embeddings(seeds, config, jobs)) for seeds in (pool[:MEASURED], others))
    nearest = cdist(asked, held_out).min(axis=1)
    with atomic(path) as temporary:
        near = dict(asked=len(asked), nearest=float(np.median(nearest)), close=float((nearest < config.look_alike).mean()))
        temporary.write_text(json.dumps(near) + "\n")


def _found(vectors: list[list[float] | None]) -> np.ndarray:
    return np.array([vector for vector in vectors if vector is not None])


def plan(config: SynthFFConfig, seeds: list[int], first: int = 0) -> tuple[list[Target], dict[str, list[list[str]]]]:
    """Pair the people and deal the pairs to the splits; returns every target and the splits as FF++ writes them.

    Video ids count from `first`. The first pairs are dealt by lot to the splits of `config.pairs`; those of `hard_pairs` have
    the last ones, and a style of their own. A split's renderers go round its fakes by lot.
    """
    ids = [f"{first + i:03d}" for i in range(len(seeds))]
    pairs = [(i, i + 1) for i in range(0, len(ids), 2)]
    plain = sum(config.pairs.values())
    deal = np.random.default_rng(config.seed).permutation(plain)
    targets, splits, start = [], {}, 0
    for split, count in config.pairs.items():
        splits[split] = [pairs[k] for k in sorted(deal[start : start + count])]
        start += count
    splits |= {split: pairs[plain : plain + count] for split, count in config.hard_pairs.items()}
    for place, (split, drawn) in enumerate(splits.items()):
        style = "hard" if split in config.hard_pairs else "plain"
        extras, renderers = STYLES[style].extras, config.dealt.get(split, tuple(config.renderers)[:1])
        turn = iter(np.random.default_rng([config.seed, 19, place, first]).permutation(2 * len(drawn)))
        for a, b in drawn:
            for x, y in ((a, b), (b, a)):
                extra, renderer = extras[x % len(extras)], renderers[next(turn) % len(renderers)]
                targets.append(Target(ids[x], ids[y], split, seeds[x], seeds[y], style, extra, renderer))
    named = {split: [[ids[a], ids[b]] for a, b in drawn] for split, drawn in splits.items()}
    return sorted(targets, key=lambda target: target.video_id), named
