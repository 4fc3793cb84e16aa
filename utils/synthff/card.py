"""SynthFF's data cards: texts in `cards/`, filled from metadata so that no number in them is typed."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pandas as pd

from utils.config import RendererConfig, SynthFFConfig
from utils.faces.encode import UNSTEADY_BLOCKS
from utils.paths import atomic
from utils.synthff import assets
from utils.synthff.assets import MAKEHUMAN
from utils.synthff.parts import LASH_STYLES
from utils.synthff.person import BROW_STYLES
from utils.synthff.scene import STYLES

ALWAYS_WORN = {
    "eyes": {"HighPolyEyes"}, "teeth": {"Teeth_Base"}, "tongue": {"tongue01"}, "eyebrows": set(BROW_STYLES),
    "eyelashes": set(LASH_STYLES),
}  # fmt: skip

FACTS = ("people.json", "build_time.json")  # what the build measured
OURS = ("seed", "look_alike", "seeds")  # of it, what the configuration or nobody needs to know
EXTRAS = {
    "none": "nothing else", "bystander": "a second person behind", "poster": "a face on a poster",
    "hair": "strands of hair before the face", "hand": "a hand before it",
}  # fmt: skip

CARDS = {1: "first.md", 2: "second.md"}  # by release


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
    """Write `root`/README.md from what the build left there; raise FileNotFoundError without it."""
    for name in ("metadata.csv", *FACTS):
        if not (root / name).is_file():
            raise FileNotFoundError(f"no {root / name}: run `make synthff`")
    metadata = _read(root / "metadata.csv")
    measured = {k: v for name in FACTS for k, v in json.loads((root / name).read_text()).items() if k not in OURS}
    first = next(iter(config.renderers.values()))
    card = (Path(__file__).parent / "cards" / CARDS[config.release]).read_text(encoding="utf-8")
    versions = dict(
        anny=assets.ANNY_VERSION, makehuman=assets.MAKEHUMAN_VERSION, panoramas=assets.PANORAMAS_VERSION,
        licences=_licences(metadata), total_megabytes=_committed(root) / 1e6,
    )  # fmt: skip
    settings = dict(
        seed=config.seed, warm_people=config.warm_people, warm_steps=first.warm_steps, tune_steps=first.tune_steps,
        look_alike=config.look_alike,
    )  # fmt: skip
    of_release = _hard_facts(metadata) if config.hard_pairs else _second_facts(root, metadata, config)
    text = card.format(**versions, **settings, **_facts(metadata, config), **of_release, **measured)
    with atomic(root / "README.md") as temporary:
        temporary.write_text(text)


def _read(path: Path) -> pd.DataFrame:
    return pd.read_csv(path, keep_default_na=False, dtype={"video_id": str, "target": str, "source": str})


def _committed(root: Path) -> int:
    """Return the bytes of a tree without the clips of its pool, whose ids have four digits."""
    return sum(file.stat().st_size for file in root.rglob("*.*") if not re.match(r"\d{4}", file.name))


def _facts(metadata: pd.DataFrame, config: SynthFFConfig) -> dict:
    """Return the card's numbers on the whole set."""
    originals = metadata[metadata.label == 0].drop_duplicates("video_id")
    first, by_quality, counts = metadata.iloc[0], metadata.groupby("quality"), originals.split.value_counts()
    return dict(
        people=len(originals), pairs=len(originals) // 2,
        split_people=", ".join(f"{counts[split]} {split}" for split in (config.pairs | config.hard_pairs)),
        real=len(originals), fake=metadata[metadata.label == 1].video_id.nunique(),
        qualities=" and ".join(f"{q} (CRF {crf})" for q, crf in config.crf.items()),
        frames=first.frames, size=f"{config.size}x{config.size}", fps=first.fps, seconds=first.frames / first.fps,
        megabytes=metadata.bytes.sum() / 1e6,
        bytes_text=", ".join(f"{q} {group.bytes.mean() / 1e3:.1f} kB each" for q, group in by_quality),
        loss_text=", ".join(f"{q} {group.psnr.mean():.1f} dB / {group.ssim.mean():.3f}" for q, group in by_quality),
        clothes=originals.clothes.nunique(), hairs=originals.hair.nunique(), backdrops=originals.scene_seed.nunique(),
        outside_equal=f"{metadata[metadata.label == 1].outside_equal.astype(float).mean():.0%} of these pixels",
    )  # fmt: skip


def _hard_facts(metadata: pd.DataFrame) -> dict:
    """Return the card's numbers on how test_hard differs."""
    originals = metadata[metadata.label == 0].drop_duplicates("video_id")
    hard, plain = (originals[originals["style"] == style] for style in ("hard", "plain"))
    sizes = sorted(set(zip(hard.width, hard.height, strict=True)))
    count = hard.extra.value_counts()
    extras = ", ".join(f"{EXTRAS[name]} ({count[name]})" for name in STYLES["hard"].extras)
    return dict(
        hard_people=len(hard), hard_sizes=", ".join(f"{width}x{height}" for width, height in sizes), extras=extras,
        hard_exposure=f"{hard.camera_exposure.min():.2f} to {hard.camera_exposure.max():.2f}",
        plain_exposure=f"{plain.camera_exposure.min():.2f} to {plain.camera_exposure.max():.2f}",
        turn=STYLES["hard"].turn, pace=STYLES["hard"].pace,
    )  # fmt: skip


def _second_facts(root: Path, metadata: pd.DataFrame, config: SynthFFConfig) -> dict:
    """Return the card's numbers on the second release's renderers, platform, rooms and pool, or that it is not made yet."""
    everybody = [metadata] + ([_read(root / "pool.csv")] if (root / "pool.csv").is_file() else [])
    fakes = pd.concat(everybody).query("label == 1").drop_duplicates("video_id")
    counts = fakes.groupby(["renderer", "split"]).size().unstack(fill_value=0)[list(config.dealt)[: fakes["split"].nunique()]]
    people = metadata[metadata["label"] == 0].drop_duplicates("video_id")
    men = people[people["sex"] == "male"]
    rows = [_renderer_row(name, one, counts.loc[name]) for name, one in config.renderers.items()]
    platform = config.platform
    facts = dict(
        renderers=len(config.renderers), renderer_rows="\n".join(rows), dealt_splits=", ".join(counts.columns),
        scale=f"{platform.scale[0]:g} to {platform.scale[1]:g} of its side", crf=f"{platform.crf[0]} to {platform.crf[1]}",
        twice=platform.twice, rooms=(people["room"].unique() != "drawn").sum(),
        beards=(men["beard"] != "none").mean(), glasses=(people["glasses"] != "none").mean(),
        unsteady=_unsteady(people, config),
    )  # fmt: skip
    return facts | _pool_facts(root, everybody[1:])


def _unsteady(people: pd.DataFrame, config: SynthFFConfig) -> int:
    """Return how many clips went through the platform at a width where x264 gave other bytes at every call on AVX-512."""
    widths = 2 * (people["source_scale"].astype(float) * config.size / 2).round()
    return int((-(-widths // 16) % UNSTEADY_BLOCKS != 0).sum())


def _pool_facts(root: Path, made: list[pd.DataFrame]) -> dict[str, str]:
    """Return what the card says of the pool, in words: it is not there before `make pool`."""
    if not made:
        return dict(pool_row="not made yet: `make pool`", pool_near="", pool_time="")
    (pool,), (time, near) = made, (json.loads((root / f"pool_{name}.json").read_text()) for name in ("time", "people"))
    count, clips, frames, megabytes = pool["target"].nunique(), len(pool), pool["frames"].iloc[0], pool["bytes"].sum() / 1e6
    return dict(
        pool_row=f"{count} people, {clips} clips of {frames} frames, {megabytes:.0f} MB: not committed, made by `make pool`",
        pool_near=f" Of {near['asked']} of them the nearest person of `val` and the tests is {near['nearest']:.2f} away in the"
        f" middle, and closer than that limit for {near['close']:.0%}.",
        pool_time=f", the pool {time['hours']:.1f} hours",
    )


def _renderer_row(name: str, one: RendererConfig, fakes: pd.Series) -> str:
    cells = (
        name.removeprefix("renderer_"), f"{one.crop} px", f"{one.channels} x {one.texels}²", "-".join(map(str, one.widths)),
        one.upsampling, f"{one.adversarial:g}, {one.gradient:g}", one.tune_steps, ", ".join(map(str, fakes)),
    )  # fmt: skip
    return f"| {' | '.join(map(str, cells))} |"
