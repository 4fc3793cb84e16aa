"""A profile that extracts and trains in seconds, on real clips; the workers of test_cluster.py load it when they start."""

from __future__ import annotations

from dataclasses import replace

from utils import config

NAME = "cluster"
PROFILE = replace(
    config.get_profile("smoke"),
    name=NAME,
    data=config.DataConfig(pairs_per_split=2, labelled_fraction=0.5),
    faces=config.FacesConfig(max_frames=2, size=24, upsample=0),
    models={"mobilenet-v2": config.ModelConfig(px=16, steps=4, batch_size=4)},
    student_model="mobilenet-v2",
)
config.PROFILES[NAME] = PROFILE
