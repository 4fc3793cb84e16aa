"""What an instrument says of the people in a video: fake, real, or that it abstains, and why.

It abstains where a face is unlike those that its network was validated on: smaller or larger, compressed otherwise or by
another codec, of another style, seldom seen; and where the interval of its probability holds even chance. Never is a score
alone a verdict.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from utils.config import INSTRUMENT
from utils.faces.tracks import Track, Watched
from utils.learn.inference import looks
from utils.learn.packaged import Packaged
from utils.learn.scores import over_clip

FAKE, REAL, ABSTAINS = "fake", "real", "abstains"
CODECS = {
    "h264": "H.264", "hevc": "HEVC", "vp8": "VP8", "vp9": "VP9", "av1": "AV1", "mpeg2video": "MPEG-2", "mpeg4": "MPEG-4",
    "mjpeg": "JPEG", "webp": "WebP", "gif": "GIF",
}  # fmt: skip


@dataclass(frozen=True)
class Opinion:
    """What a packaged network thinks of some faces of one person; probabilities are those of fake."""

    scores: np.ndarray  # (n,) of the faces, as the network gives them: no probabilities
    score: float  # their mean
    probability: float
    low: float
    high: float
    crf: float  # measured
    side: float  # px of the square, the median
    distance: float  # in style
    limit: float  # beyond which it is unlike what was validated
    reasons: tuple[str, ...] = ()  # for abstaining

    @property
    def verdict(self) -> str:
        return ABSTAINS if self.reasons else FAKE if self.probability > 0.5 else REAL


@dataclass(frozen=True)
class Verdict:
    """What is said of one track of a video."""

    number: int  # from 1, in the order in which the tracks began
    track: Track
    sampled: int  # pictures that were looked at between the track's first and last
    opinion: Opinion

    @property
    def verdict(self) -> str:
        return self.opinion.verdict

    @property
    def found(self) -> int:
        return len(self.track.frames)


def judge(seen: Watched, model: Packaged, prior: float = 0.5) -> list[Verdict]:
    """Return a verdict on each track of a video; `prior` is the chance of fake before anybody looked.

    Raises ValueError for a chance that is none.
    """
    if not 0 < prior < 1:
        raise ValueError(f"prior {prior} is no chance between 0 and 1")
    verdicts = []
    for number, track in enumerate(seen.tracks, start=1):
        sampled = sum(track.frames[0] <= frame <= track.frames[-1] for frame in seen.sampled)
        sides = np.array([x1 - x0 for x0, _, x1, _ in track.squares])
        reasons = [*_damage(seen), *_seldom(len(track.frames), sampled), *_otherwise_encoded(seen, model)]
        verdicts.append(Verdict(number, track, sampled, opinion(np.stack(track.crops), sides, model, prior, reasons)))
    return verdicts


def opinion(
    crops: np.ndarray, sides: np.ndarray, model: Packaged, prior: float = 0.5, reasons: Sequence[str] = ()
) -> Opinion:
    """Return what a network thinks of one person's crops, uint8 RGB (n, S, S, 3), cut out of squares of so many px (n,).

    `reasons` are those that speak for abstaining already. Raises ValueError where a network's scores are no numbers.
    """
    scores, styles = looks(model.model, torch.from_numpy(crops).permute(0, 3, 1, 2))
    crf, side = float(model.gauge(crops, sides, styles).mean()), float(np.median(sides))
    kind = "clip" if len(scores) >= INSTRUMENT.clip_from else "face"
    distance = float(model.domain(styles.mean(axis=0, keepdims=True))[0])
    limit = float(model.domain.limits[int(kind == "clip")])
    score = float(over_clip(scores, np.zeros(len(scores), dtype=int))[0])
    probability, low, high = _probability(score, scores, crf, model, kind, prior)
    if not np.isfinite([score, probability, low, high, crf, distance]).all():
        raise ValueError(f"{model.name} gives scores that are no numbers: package its run again")
    reasons = [*reasons, *_unlike(model, crf, side, distance, limit)]
    if not reasons and low <= 0.5 <= high:
        reasons = [f"undecided: the interval {low:.2f} to {high:.2f} holds even chance"]
    return Opinion(scores, score, probability, low, high, crf, side, distance, limit, tuple(reasons))


def _probability(
    score: float, scores: np.ndarray, crf: float, model: Packaged, kind: str, prior: float
) -> tuple[float, float, float]:
    """Return P(fake) of a track and its interval, over its faces and over the people who calibrated the network."""
    rng = np.random.default_rng(len(scores))
    picked = scores[rng.integers(len(scores), size=INSTRUMENT.draws * len(scores))]
    drawn = over_clip(picked, np.arange(INSTRUMENT.draws).repeat(len(scores)))
    found = model.calibration[kind](np.append(score, drawn), crf, prior)
    return float(found[0]), *(float(end) for end in np.quantile(found[1:], INSTRUMENT.interval))


def _damage(seen: Watched) -> list[str]:
    """Say what of the whole video could not be seen, if it is too much."""
    lost = 1 - len(seen.sampled) / seen.asked
    if seen.promised > seen.packets:
        lost = 1 - (1 - lost) * seen.packets / seen.promised
    return [f"damaged: {lost:.0%} of the video can't be read"] if lost > INSTRUMENT.most_damaged else []


def _seldom(found: int, sampled: int) -> list[str]:
    seldom = found < INSTRUMENT.least_seen * sampled
    return [f"seldom seen: in {found} of the {sampled} pictures between its first and its last"] if seldom else []


def codec_label(codec: str) -> str:
    """Return what people call a codec of FFmpeg's, its own word where nobody has said."""
    return CODECS.get(codec, codec)


def _otherwise_encoded(seen: Watched, model: Packaged) -> list[str]:
    """Say so where a video went through a codec that the network was not validated on: each leaves its own traces."""
    if not seen.codec or seen.codec in (*model.codecs, *INSTRUMENT.exact_codecs):
        return []
    known = " and ".join(map(codec_label, model.codecs))
    return [f"encoded by {codec_label(seen.codec)}, validated on {known}"]


def _unlike(model: Packaged, crf: float, side: float, distance: float, limit: float) -> list[str]:
    """Say in what a person's faces lie outside of what the network was validated on."""
    (best, worst), (least, most) = model.range("crf"), model.range("side")
    reasons = []
    if distance > limit:
        knows = model.card["trained_on"]
        reasons.append(f"unlike the faces that it knows, {knows} (distance {distance:.2f}, limit {limit:.2f})")
    if not least <= side <= most:
        reasons.append(f"a face of {side:.0f} px, validated from {least:.0f} to {most:.0f} px")
    if not best <= crf <= worst:
        reasons.append(f"compressed like CRF {crf:.0f}, validated from {best:.0f} to {worst:.0f}")
    return reasons
