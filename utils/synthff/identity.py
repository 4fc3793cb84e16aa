"""One synthetic person's body shape, drawn from a seed: sex, age, ancestry, build and a few hundred local face shapes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from utils.synthff import mesh

ANCESTRIES = ("caucasian", "african", "asian")
# Standard deviation of the local shape weights. Past about .4 brows turn blocky.
SPREAD = dict(
    head=0.24, nose=0.36, mouth=0.36, chin=0.38, cheek=0.38, eyes=0.3, eyebrows=0.22, forehead=0.28, ears=0.35, neck=0.12
)
MAX_WEIGHT = 0.85
# The second release: smaller spreads where the first has extremes, fewer of the shapes that spoil a face, and a limit on
# the length of all weights of a category together.
SPREAD_2 = SPREAD | dict(nose=0.27, mouth=0.26, chin=0.3, cheek=0.34, eyes=0.24, eyebrows=0.16, forehead=0.24, ears=0.3)
MAX_WEIGHT_2 = 0.55
MAX_LENGTH_2 = dict(nose=0.95, mouth=0.95, chin=0.75, cheek=0.75, eyes=0.85, eyebrows=0.3, forehead=0.4, head=0.75)
CALMED = {  # parts of names and the share of the weight that is kept
    "nostrils-angle": 0.4, "nose-scale-depth": 0.6, "nose-compression": 0.4, "nose-trans": 0.3, "septumangle": 0.4,
    "nose-greek": 0.5, "nose-hump": 0.6, "nose-flaring": 0.6, "nose-point-up": 0.5, "nose-base": 0.6, "eye-push": 0.3,
    "eye-height": 0.6, "eye-bag": 0.6, "eye-trans": 0.5, "mouth-trans": 0.4, "mouth-scale-vert": 0.6, "mouth-angles": 0.5,
    "lip-height": 0.6, "lip-ext": 0.6, "lip-middle": 0.6, "mouth-dimples": 0.4, "chin-prognathism": 0.4, "chin-jaw-drop": 0.4,
    "chin-cleft": 0.3, "chin-prominent": 0.6, "head-fat": 0.7, "head-scale": 0.7, "forehead-nubian": 0.6,
}  # fmt: skip
EASED_2 = (("eyes", "l-eye-scale-incr", 0.25), ("eyes", "r-eye-scale-incr", 0.25), ("mouth", "mouth-angles-up", 0.15))
OPPOSITES = (
    ("decr", "incr"), ("down", "up"), ("backward", "forward"), ("in", "out"), ("concave", "convex"), ("compress", "uncompress")
)  # fmt: skip
SKIPPED = ("head-trans", "head-age", "head-angle", "ears-shape")


@dataclass
class Identity:
    """Neutral vertices (V, 3) in decimetres and what the person's skin, hair and clothes are drawn from."""

    seed: int
    male: bool
    age: float  # 0 young .. 1 old
    ancestry: np.ndarray  # shares of ANCESTRIES, sum 1
    vertices: np.ndarray


def draw_identity(seed: int, release: int = 1) -> Identity:
    """Draw a person; the same seed gives the same person, in the second release with the same but calmer features."""
    rng = np.random.default_rng(seed)
    male = bool(rng.random() < 0.5)
    strength = float(np.clip(rng.normal(0.93, 0.06), 0.7, 1))  # how male or female
    ancestry = rng.dirichlet([0.25] * 3)
    age = float(np.clip(rng.beta(1.3, 2.2), 0, 0.95))
    build = float(np.clip(rng.normal(0, 0.5), -1, 1))  # thin .. heavy
    vertices = mesh.base()["v"].copy()
    _add_macro(vertices, male, strength, age, ancestry, build)
    for category, spread in (SPREAD if release == 1 else SPREAD_2).items():
        weights = _draw_local(rng, category, spread, MAX_WEIGHT if release == 1 else MAX_WEIGHT_2)
        for name, weight in weights if release == 1 else calm(category, weights):
            _add(vertices, category, name, weight)
    _add_asymmetry(vertices, rng, 0.3 if release == 1 else 0.2)
    for target in EASED_2 if release > 1 else ():
        _add(vertices, *target)
    return Identity(seed, male, age, ancestry, vertices)


def _add(vertices: np.ndarray, category: str, name: str, weight: float) -> None:
    if abs(weight) > 1e-4:
        indices, offsets = mesh.shape_target(category, name)
        vertices[indices] += np.float32(weight) * offsets


def _add_macro(vertices, male: bool, strength: float, age: float, ancestry: np.ndarray, build: float) -> None:
    extreme = "maxweight" if build > 0 else "minweight"
    for sex, sex_share in (("male", strength if male else 1 - strength), ("female", 1 - strength if male else strength)):
        for years, age_share in (("young", 1 - age), ("old", age)):
            share = sex_share * age_share
            for name, part in zip(ANCESTRIES, ancestry, strict=True):
                _add(vertices, "macrodetails", f"{name}-{sex}-{years}", share * part)
            muscle = f"universal-{sex}-{years}-averagemuscle"
            _add(vertices, "macrodetails", f"{muscle}-{extreme}", share * abs(build))
            _add(vertices, "macrodetails", f"{muscle}-averageweight", share * (1 - abs(build)))


def _opposite(name: str, names: set[str]) -> str | None:
    for one, other in OPPOSITES:
        for tail, swapped in ((one, other), (other, one)):
            candidate = name.removesuffix(tail) + swapped
            if name.endswith(tail) and candidate in names and candidate != name:
                return candidate
    return None


def calm(category: str, weights: list[tuple[str, float]]) -> list[tuple[str, float]]:
    """Return weights of a category's shapes with what spoils faces reduced, their length at most `MAX_LENGTH_2`."""
    kept = [(name, w * np.prod([share for part, share in CALMED.items() if part in name])) for name, w in weights]
    length = float(np.linalg.norm([w for name, w in kept if not name.startswith("r-")] or [0.0]))
    scale = min(1.0, MAX_LENGTH_2.get(category, np.inf) / max(length, 1e-9))
    return [(name, float(w * scale)) for name, w in kept]


def _draw_local(rng: np.random.Generator, category: str, spread: float, most: float) -> list[tuple[str, float]]:
    """Draw a normal weight of each local shape; a shape and its opposite share one weight, left and right nearly so."""
    names, out = mesh.shape_names(category), []
    done: set[str | None] = set()
    for name in names:
        skip = name.startswith(("r-", *SKIPPED)) or "measure" in name or "pointed" in name
        if name in done or skip or (category == "neck" and "scale" not in name):
            continue
        other = _opposite(name, set(names))
        done |= {name, other}
        weight = rng.normal(0, spread) if other else max(0.0, rng.normal(-0.3, spread))
        weight = float(np.clip(weight, -most, most))
        if "trans-forward" in name or "trans-backward" in name:
            weight *= 0.4  # a face that stands out of its skull
        chosen = name if weight >= 0 else other
        out.append((chosen, abs(weight)))
        if chosen.startswith("l-"):
            mirrored = "r-" + chosen[2:]
            out.append((mirrored, abs(weight) * float(np.clip(rng.normal(1, 0.1), 0.6, 1.4))))
    return out


def _add_asymmetry(vertices: np.ndarray, rng: np.random.Generator, most: float) -> None:
    for left in [name for name in mesh.shape_names("asym") if name.endswith("-l")]:
        if rng.random() < 0.35:
            side = left if rng.random() < 0.5 else left[:-1] + "r"
            _add(vertices, "asym", side, float(rng.uniform(0, most)))
