"""What a face can do at once: face units add up linearly, so the second release limits each of them and their sum."""

from __future__ import annotations

import numpy as np

# Most of a unit, before left and right part. Past these the linear units stop looking like a face.
MOUTH_CAPS = dict(
    jawOpen=0.6, mouthFunnel=0.5, mouthPucker=0.6, mouthSmile=0.5, mouthFrown=0.12, mouthStretch=0.25, mouthPress=0.3,
    mouthRollLower=0.3, mouthRollUpper=0.22, mouthDimple=0.12, mouthUpperUp=0.4, mouthLowerDown=0.45,
)  # fmt: skip
MOUTH_SUM = 1.25  # of all units of the mouth, each counted once for both sides
# A unit gives way to others by their sum times a share: no smile with a frown, no pressed lips on an open jaw.
GIVES_WAY = {
    "mouthFrown": (("mouthSmile",), 4.0),
    "mouthSmile": (("mouthPucker", "mouthFunnel"), 0.8),
    "mouthStretch": (("mouthPucker", "mouthFunnel", "mouthSmile"), 0.9),
    "mouthPress": (("jawOpen",), 2.5),
    "mouthRollLower": (("jawOpen",), 1.5),
    "mouthRollUpper": (("jawOpen",), 1.5),
}
EYE_CAPS = dict(
    browInnerUp=0.6, browOuterUp=0.4, browDown=0.15, eyeBlink=1.0, eyeWide=0.3, eyeSquint=0.35, cheekSquint=0.4, eyeLook=0.85
)


def soft_cap(value: float, cap: float) -> float:
    """Return a value that follows small ones and never passes `cap`, without a kink."""
    return cap * float(np.tanh(max(value, 0.0) / cap))


def tame_mouth(units: dict[str, float]) -> dict[str, float]:
    """Return the mouth's units, one value for both sides each, within `MOUTH_CAPS` and `MOUTH_SUM`."""
    out = {name: soft_cap(value, MOUTH_CAPS[name]) for name, value in units.items()}
    free = dict(out)
    for name, (others, share) in GIVES_WAY.items():
        if name in out:
            out[name] = free[name] * max(0.0, 1 - share * sum(free.get(other, 0.0) for other in others))
    total = sum(out.values())
    scale = soft_cap(total, MOUTH_SUM) / total if total else 1.0
    return {name: value * scale for name, value in out.items()}


def tame_eyes(units: dict[str, float]) -> dict[str, float]:
    """Return the units of eyes and brows within `EYE_CAPS`; lifted and lowered brows exclude each other."""
    caps = {name: next(cap for stem, cap in EYE_CAPS.items() if name.startswith(stem)) for name in units}
    out = {name: soft_cap(v, caps[name]) if name[:8] != "eyeBlink" else float(np.clip(v, 0, 1)) for name, v in units.items()}
    for side in ("Left", "Right"):
        down = "browDown" + side
        if down in out:
            out[down] *= max(0.0, 1 - 3 * out.get("browInnerUp", 0.0))
    return out
