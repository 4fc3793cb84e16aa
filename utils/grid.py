"""Everything that takes hours, resumably: the comparison over seeds, the number of labels, ablations, the 18 cases.

    python -m utils.grid [--groups comparison labels ...] [--seeds 0 1 2 3 4] [--models ...] [--people ...] [--jobs 2]

Finished runs are skipped, so an interrupted grid goes on where it stopped. On a CPU one single-thread process a core
trains more than one process with all cores; on a GPU use `--jobs 1`. The group `notebooks` is what notebooks 03 to 05
would train themselves, one network after the other: `make reproduce` trains it here before they run.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import product

import joblib
import torch
from tqdm import tqdm

from utils.config import MODEL_NAMES, PROFILES, Profile, get_profile
from utils.dataset import FaceSet, load_faces
from utils.experiments import (
    CASE_TEACHERS,
    COMPARED,
    CONTROL,
    LABELLED_PEOPLE,
    TEACHERS,
    WEIGHTS,
    Experiment,
    ablations,
    labels_profile,
    weights_profile,
)
from utils.models import WeightsUnavailable
from utils.noisy_student import iteration_phases, noisy_trained, open_key, self_train, supervise
from utils.predict import save_predictions
from utils.runs import run_name
from utils.training import SUPERVISED, supervised_phases

CASES = SUPERVISED | {"noisy_trained": noisy_trained}
CHAINS = {  # phases that one process does in a row, a student after its teacher
    "comparison": (("teacher_both", "student_compression", "oracle"), ("teacher_c40", "student_classic", "teacher_c23")),
    "labels": (COMPARED,),
    "cases": (("trained", "post_trained"), ("noisy_trained",)),
    "weights": (("teacher_both", "student_compression"),),
}
GROUPS = ("comparison", "cases", "labels", "ablation", "weights")  # in this order: ablations need the comparison's teachers
NOTEBOOKS = "notebooks"  # a part of the first two
ONE_SEED = (NOTEBOOKS, "cases", "ablation", "weights")  # unless more are asked for


@dataclass(frozen=True)
class Task:
    """What one process does in a row, with one seed."""

    group: str
    seed: int
    phases: tuple[str, ...]
    model: str = ""  # of the groups cases and weights
    people: int = 0  # with labels, in the group labels
    experiment: Experiment | None = None  # of the group ablation


def tasks(
    profile: Profile, group: str, seeds: Sequence[int], models: Sequence[str] = MODEL_NAMES, people: Sequence[int] = (),
    factors: Sequence[str] = (),
) -> list[Task]:  # fmt: skip
    """Return the tasks of a group, seed by seed.

    `models` are of the cases, `people` of the labels and `factors` of the ablation; none of the last two means all. Raises
    ValueError for an unknown group or factor.
    """
    if group == "ablation":
        found = product(seeds, ablations(profile, factors))
        return [Task(group, seed, ("student_compression",), experiment=one) for seed, one in found]
    if group == NOTEBOOKS:
        networks = [one for one in (*profile.baselines, *profile.efficientnets) if one not in profile.left_to_grid]
        cases = [Task("cases", seed, supervised_phases(profile, one), one) for seed in seeds for one in networks]
        return tasks(profile, "comparison", seeds) + cases
    if group not in CHAINS:
        raise ValueError(f"unknown group {group!r}: choose one of {', '.join((*GROUPS, NOTEBOOKS))}")
    counts = (people or LABELLED_PEOPLE) if group == "labels" else (0,)
    networks = {"cases": models, "weights": WEIGHTS}.get(group, ("",))
    found = product(seeds, networks, counts, CHAINS[group])
    return [Task(group, seed, phases, model, count) for seed, model, count, phases in found]


def run_task(profile_name: str, task: Task, threads: int | None = None) -> list[str]:
    """Train and score what a task asks for; print and return a line a phase: done, or left out for want of weights."""
    if threads:
        torch.set_num_threads(threads)
        os.environ["TQDM_DISABLE"] = "1"  # several bars at once would overwrite each other
    profile = get_profile(profile_name)
    faces, lines = load_faces(profile), []
    for phase in task.phases:
        name = f"{task.group}: {phase} {task.model or ''} {task.people or ''} seed {task.seed}"
        name = f"{task.experiment.variant}: seed {task.seed}" if task.experiment else " ".join(name.split())
        try:
            run_phase(profile, task, phase, faces)
            lines.append(f"{name}: done")
        except WeightsUnavailable as error:
            lines.append(f"{name}: left out, {error}")
        tqdm.write(lines[-1])
    return lines


def run_phase(profile: Profile, task: Task, phase: str, faces: FaceSet) -> None:
    """Train one phase of a task (finished runs are loaded), score its runs, and judge what its students were taught."""
    seed, network = task.seed, profile.student_model
    if task.group == "cases":
        CASES[phase](profile, task.model, faces, seed)
        for scored in filter(None, (phase, CASE_TEACHERS.get(phase))):
            save_predictions(profile, run_name(scored, task.model, seed), faces)
        return
    if task.group == "ablation":
        run_experiment(profile, task.experiment, faces, seed)
        return
    if task.group == "weights":
        profile, network = weights_profile(profile, task.model), task.model
    if task.people:
        profile = labels_profile(profile, task.people, len(faces.select(split="train").pairs))
    if phase not in TEACHERS:
        supervise(profile, phase, faces, seed)
        save_predictions(profile, run_name(phase, network, seed), faces)
        return
    self_train(profile, phase, faces, seed)
    save_predictions(profile, run_name(phase, network, seed), faces)
    iterations = [run_name(each, network, seed) for each in iteration_phases(phase, profile.student.iterations)]
    if task.group == "comparison":
        for name in iterations:
            save_predictions(profile, name, faces)
            open_key(profile, name, faces, seed)
    if task.group == "labels" and phase == "student_compression":
        save_predictions(profile, iterations[0], faces)
        run_experiment(profile, replace(CONTROL, group=profile.variant), faces, seed)


def run_experiment(profile: Profile, experiment: Experiment, faces: FaceSet, seed: int) -> None:
    """Train and score the first compression student with one setting changed, taught by the profile's own teacher."""
    phase, changed, network = "student_compression", experiment.profile(profile), experiment.student_name(profile)
    self_train(changed, phase, faces, seed, name=network, teachers=profile, iterations=1, **experiment.student)
    save_predictions(changed, run_name(phase, network, seed), faces)


def run_grid(profile_name: str, todo: Sequence[Task], jobs: int) -> list[str]:
    """Run tasks in `jobs` processes; return one line a phase. A failure in one stops the grid with its error."""
    jobs = max(1, min(jobs, len(todo)))
    threads = max(1, os.cpu_count() // jobs) if jobs > 1 else None
    pool = joblib.Parallel(n_jobs=jobs, return_as="generator_unordered", batch_size=1, pre_dispatch=jobs)
    done = pool(joblib.delayed(run_task)(profile_name, task, threads) for task in todo)
    lines = []
    for result in tqdm(done, total=len(todo), desc="grid", disable=bool(os.environ.get("TQDM_DISABLE"))):
        lines += result
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description="Train and score the experiments that take hours, resumably.")
    parser.add_argument("--profile", default="synthff", choices=sorted(PROFILES))
    parser.add_argument("--groups", nargs="+", choices=(*GROUPS, NOTEBOOKS), default=list(GROUPS))
    parser.add_argument("--seeds", nargs="+", type=int, help=f"default: 0 to 4; 0 for {', '.join(ONE_SEED)}")
    parser.add_argument("--models", nargs="+", choices=MODEL_NAMES, default=list(MODEL_NAMES), help="of the cases")
    parser.add_argument("--people", nargs="+", type=int, default=LABELLED_PEOPLE, help="with labels, of the group labels")
    parser.add_argument("--factors", nargs="+", default=(), help="of the group ablation; default: all")
    parser.add_argument("--jobs", type=int, default=1 if torch.cuda.is_available() else os.cpu_count())
    arguments = parser.parse_args()
    profile = get_profile(arguments.profile)
    try:
        for group in (name for name in (NOTEBOOKS, *GROUPS) if name in arguments.groups):  # one after the other
            seeds = arguments.seeds or ([0] if group in ONE_SEED else [0, 1, 2, 3, 4])
            todo = tasks(profile, group, seeds, arguments.models, arguments.people, arguments.factors)
            run_grid(arguments.profile, todo, arguments.jobs)
    except (ValueError, FileNotFoundError) as error:
        parser.exit(2, f"error: {error}\n")


if __name__ == "__main__":
    main()
