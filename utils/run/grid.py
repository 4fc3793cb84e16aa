"""Everything that trains, resumably: the comparison over seeds, the original's 18 cases, the number of labels, ablations.

    python -m utils.run.grid [--profile synthff] [--groups comparison labels ...] [--seeds 0 1 2 3 4] [--jobs 2]
                             [--scheduler tcp://HOST:8786]

Runs go below `data/work/<profile>/runs`; finished ones are skipped, so an interrupted grid goes on where it stopped. On a
CPU one single-thread process a core trains more than one process with all cores; on a GPU use `--jobs 1`. The group
`notebooks` is the main job, what notebooks 03 to 05 are about: `make reproduce` trains it before they run, as the group
`main` (`main_job` of the profile). With `--scheduler` the tasks run on the workers of a Dask cluster (see `cluster.py`).
"""

from __future__ import annotations

import argparse
import os
import traceback
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import product

import joblib
import pandas as pd
import torch
from tqdm import tqdm

from utils.config import (
    ARMS,
    CASE_NETWORKS,
    COMPARED,
    CONTROL,
    LABELLED_PEOPLE,
    PHASE_TEACHER,
    PROFILES,
    TEACHERS,
    Experiment,
    Profile,
    ablations,
    get_profile,
    labels_profile,
    labels_variant,
    methods_profile,
)
from utils.faces.layout import ORIGINAL
from utils.learn import distributed
from utils.learn.checkpoints import request_of, run_name, settings_digest
from utils.learn.dataset import FaceSet, load_faces
from utils.learn.models import WeightsUnavailable
from utils.learn.noisy_student import (
    iteration_phases,
    judge_pseudo_labels,
    noisy_trained,
    original_student,
    self_train,
    split_labels,
    student_settings,
    supervise,
)
from utils.learn.predict import save_predictions
from utils.learn.training import SUPERVISED, phase_layers, supervised_phases
from utils.results import store
from utils.run import cluster
from utils.run.arguments import at_least, processes
from utils.run.progress import watched

CASES = SUPERVISED | {"noisy_trained": noisy_trained}
CHAINS = {  # phases that one process does in a row, a student after its teacher
    "comparison": (("teacher_both", "student_compression", "oracle"), ("teacher_c40", "student_classic", "teacher_c23")),
    "labels": (COMPARED,),
    "cases": (("trained", "post_trained"), ("noisy_trained",)),
}
NOTEBOOKS = "notebooks"  # a part of the first two
MAIN = "main"  # the groups of the profile's main job
METHODS = "methods"  # one network for each manipulation method, where the profile reads two or more of them
GROUPS = ("comparison", "cases", "labels", "ablation")  # in this order: ablations need the comparison's teachers


@dataclass(frozen=True)
class Task:
    """What one process does in a row, with one seed."""

    group: str
    seed: int
    phases: tuple[str, ...]
    model: str = ""  # of the group cases
    people: int = 0  # with labels, in the group labels
    method: str = ""  # of manipulation, that alone is learned, in the group methods
    experiment: Experiment | None = None  # of the group ablation

    def __str__(self) -> str:
        about = f"{self.group}: {self.model} {f'{self.people} people' if self.people else self.method} seed {self.seed}"
        return f"{self.experiment.variant}: seed {self.seed}" if self.experiment else " ".join(about.split())


def tasks(
    profile: Profile, group: str, seeds: Sequence[int] = (), models: Sequence[str] = CASE_NETWORKS,
    people: Sequence[int] = (), factors: Sequence[str] = (),
) -> list[Task]:  # fmt: skip
    """Return the tasks of a group, seed by seed.

    `models` are of the cases, `people` of the labels and `factors` of the ablation; none of the last two means all, no seeds
    mean the profile's. Raises ValueError for an unknown group or factor.
    """
    if group not in (*GROUPS, NOTEBOOKS, METHODS):
        raise ValueError(f"unknown group {group!r}: choose one of {', '.join((*GROUPS, NOTEBOOKS, METHODS))}")
    seeds = tuple(dict.fromkeys(seeds or profile.seeds[group]))
    if group == "ablation":
        changes = product(seeds, ablations(profile, factors))
        return [Task(group, seed, ("student_compression",), experiment=one) for seed, one in changes]
    if group == METHODS:
        last, name = supervised_phases(profile, profile.student_model)[-1:], profile.student_model
        return [Task(group, seed, last, name, method=one) for seed, one in product(seeds, profile.data.methods)]
    if group == NOTEBOOKS:
        networks = profile.repeated or (*profile.baselines, *profile.efficientnets)
        return tasks(profile, "comparison", seeds) + supervised_tasks(profile, networks, seeds)
    counts = dict.fromkeys(people or LABELLED_PEOPLE) if group == "labels" else (0,)
    if group == "labels" and (odd := [count for count in counts if count < 2 or count % 2]):
        raise ValueError(f"{odd[0]} people with labels: whole pairs are needed, so an even number from 2 on")
    networks = models if group == "cases" else ("",)
    chains = product(seeds, networks, counts, CHAINS[group])
    return [Task(group, seed, phases, model, count) for seed, model, count, phases in chains]


def supervised_tasks(profile: Profile, networks: Sequence[str], seeds: Sequence[int]) -> list[Task]:
    """Return the tasks of networks that learn from labels alone."""
    return [Task("cases", seed, supervised_phases(profile, one), one) for seed, one in product(seeds, networks)]


def run_names(profile: Profile, todo: Sequence[Task]) -> list[str]:
    """Return the names of the runs that tasks end in, one a phase."""
    return [run_name(phase, task.model or profile.student_model, task.seed) for task in todo for phase in task.phases]


def expected(profile: Profile, task: Task) -> dict[tuple[str, str], str]:
    """Return the fits of a task by experiment and name, each with the hash of the settings that `config.py` has for it.

    Of students they are all iterations; the best one's copy, the phase's own run, has the settings of one of them.
    """
    runs = {}
    for phase in task.phases:
        changed, model = _of_task(profile, task)
        settings, layers = changed.model(model, phase), phase_layers(changed, model, phase)
        wanted = {phase: (settings, {})}
        if phase in TEACHERS or phase == "noisy_trained":
            config = changed.student_of(phase) if phase in TEACHERS else original_student(changed)
            config = replace(config, **task.experiment.student, iterations=1) if task.experiment else config
            later = replace(config, student_init=config.later_init, steps_factor=config.later_steps_factor)
            first, *others = iteration_phases(phase, config.iterations)
            several = {first: config} | dict.fromkeys(others, later)
            wanted = {name: (student_settings(settings, one), {"student": asdict(one)}) for name, one in several.items()}
        elif phase in ARMS and ARMS[phase].all_labels:
            wanted = {phase: (settings, {"student": asdict(changed.student_of("student_compression"))})}
        fits = {name: (layers, *one) for name, one in wanted.items()}
        if phase == "noisy_trained":  # the original's third phase has a teacher of its own
            fits[PHASE_TEACHER] = ("all", changed.model(model, PHASE_TEACHER), {})
        for name, (layers, settings, student) in fits.items():
            request = request_of(model, task.seed, layers, settings, changed.train, phase=name, **student)
            runs[changed.variant, run_name(name, model, task.seed)] = settings_digest(request)
    control = _control(task)
    return runs | (expected(profile, control) if control else {})


def scored(profile: Profile, task: Task) -> list[tuple[str, str]]:
    """Return the runs of a task that `run_phase` scores, by experiment and name."""
    changed, model = _of_task(profile, task)
    phases = list(task.phases)
    for phase in task.phases:
        if phase == "noisy_trained":
            phases.append(PHASE_TEACHER)
        elif phase in TEACHERS and task.group == "comparison":
            phases += iteration_phases(phase, changed.student_of(phase).iterations)
        elif phase == "student_compression" and task.group == "labels":
            phases += iteration_phases(phase, 1)
    control = _control(task)
    runs = [(changed.variant, run_name(phase, model, task.seed)) for phase in phases]
    return runs + (scored(profile, control) if control else [])


def _of_task(profile: Profile, task: Task) -> tuple[Profile, str]:
    """Return the profile with what a task changes in it, but for its part of labels, and the name of the network."""
    if task.experiment:
        return task.experiment.profile(profile), task.experiment.student_name(profile)
    if task.people:
        return replace(profile, variant=labels_variant(task.people)), profile.student_model
    if task.method:
        profile = methods_profile(profile, task.method)
    return profile, task.model or profile.student_model


def _control(task: Task) -> Task | None:
    """Return the experiment that a number of labels trains beside its student; None for other tasks."""
    if not task.people or "student_compression" not in task.phases:
        return None
    return Task("ablation", task.seed, ("student_compression",), experiment=replace(CONTROL, group=labels_variant(task.people)))


def missing(profile: Profile, todo: Sequence[Task], faces: FaceSet | None = None) -> list[Task]:
    """Return the tasks that lack a run or its scores in the profile's results, or have one made with other settings.

    With the `faces` those of a teacher or student, too, that had the labels of more people, or fewer, than it would have now.
    """
    table, with_scores = store.load_runs(profile), store.runs_with_scores(profile)
    keys = list(zip(table["experiment"], table["run"], strict=True))
    have, people = (dict(zip(keys, table[name], strict=True)) for name in ("settings", "labelled_people"))

    def finished(task: Task) -> bool:
        wanted, asked = expected(profile, task), set(scored(profile, task))
        if faces is not None and task.group in ("comparison", "labels", "ablation"):
            changed = _of_task(profile, task)[0]
            if task.people:
                changed = labels_profile(profile, task.people, len(faces.select(split="train").pairs))
            labelled = 2 * len(split_labels(changed, faces, task.seed)[0].pairs)
            everybody = tuple(phase for phase, arm in ARMS.items() if arm.all_labels)
            if any(people.get(key) != labelled for key in wanted if not key[1].startswith(everybody)):
                return False
        chosen = asked - set(wanted)  # copies of the best iteration, of whatever number it is
        return (
            all(have.get(key) == settings for key, settings in wanted.items())
            and asked <= with_scores
            and {have.get(key) for key in chosen} <= set(wanted.values())
        )

    return [task for task in todo if not finished(task)]


def run_missing(profile: Profile, todo: Sequence[Task], faces: FaceSet) -> list[Task]:
    """Train and score, one after the other, what the profile's results lack; return it. What notebooks call."""
    lacking = missing(profile, todo, faces)
    for task in lacking:
        for phase in task.phases:
            run_phase(profile, task, phase, faces)
    return lacking


def read_or_train(profile: Profile, todo: Sequence[Task], faces: FaceSet) -> tuple[str, pd.DataFrame, pd.DataFrame]:
    """Train what the profile's results lack of some tasks; return a line about that, and scores, one row a face.

    Scores are those of the runs that these tasks end in, and those of all there are, experiments left out.
    """
    trained = run_missing(profile, todo, faces)
    everything = store.of_comparison(store.load_predictions(profile))
    told = f"Trained here: {len(trained)} of {len(todo)} networks; the others are read."
    return told, everything[everything["run"].isin(run_names(profile, todo))], everything


class TaskFailed(RuntimeError):
    """A task that ended in an error, which the message names, wherever it ran."""


def run_task(profile_name: str, task, threads: int | None = None, run: Callable[..., list[str]] | None = None) -> list[str]:
    """Train and score what a task asks for; print and return a line a phase: done, or left out for want of weights.

    `run(profile_name, task)` does it, for other tasks than those of the grid. Raises TaskFailed with the task's name and
    what was wrong.
    """
    if threads:
        torch.set_num_threads(threads)
        os.environ["TQDM_DISABLE"] = "1"  # several bars at once would overwrite each other
    try:
        return (run or _run_phases)(profile_name, task)
    except Exception as error:
        if not isinstance(error, ValueError | OSError | FloatingPointError | WeightsUnavailable):
            traceback.print_exc()  # a fault of the code: the line alone would not tell where
        raise TaskFailed(f"{task} failed: {error or type(error).__name__}") from error


def _run_phases(profile_name: str, task: Task) -> list[str]:
    profile = get_profile(profile_name)
    faces, lines = load_faces(profile), []
    for phase in task.phases:
        name = f"{task}" if task.experiment else f"{task}, {phase}"
        try:
            run_phase(profile, task, phase, faces)
            lines.append(f"{name}: done")
        except WeightsUnavailable as error:
            lines.append(f"{name}: left out, {error}")
        if distributed.is_main():
            tqdm.write(lines[-1])
    return lines


def run_phase(profile: Profile, task: Task, phase: str, faces: FaceSet) -> None:
    """Train one phase of a task (finished runs are loaded), score its runs, and judge its students' pseudo-labels."""
    seed, network = task.seed, profile.student_model
    if task.group == "cases":
        CASES[phase](profile, task.model, faces, seed)
        for scored in (phase, PHASE_TEACHER) if phase == "noisy_trained" else (phase,):
            save_predictions(profile, run_name(scored, task.model, seed), faces)
        return
    if task.group == "ablation":
        run_experiment(profile, task.experiment, faces, seed)
        return
    if task.group == METHODS:
        changed, name = methods_profile(profile, task.method), run_name(phase, task.model, seed)
        seen = faces.index["method"].isin([ORIGINAL, task.method])
        SUPERVISED[phase](changed, task.model, FaceSet(faces.index[seen], faces.pixels), seed)
        save_predictions(changed, name, faces)  # of all methods
        return
    if task.people:
        profile = labels_profile(profile, task.people, len(faces.select(split="train").pairs))
    if phase not in TEACHERS:
        supervise(profile, phase, faces, seed)
        save_predictions(profile, run_name(phase, network, seed), faces)
        return
    self_train(profile, phase, faces, seed)
    save_predictions(profile, run_name(phase, network, seed), faces)
    iterations = [run_name(each, network, seed) for each in iteration_phases(phase, profile.student_of(phase).iterations)]
    if task.group == "comparison":
        for name in iterations:
            judge_pseudo_labels(profile, name, faces, seed)
            save_predictions(profile, name, faces)  # last: where there are scores, all is there (`missing`)
    if task.group == "labels" and phase == "student_compression":
        save_predictions(profile, iterations[0], faces)
        run_experiment(profile, replace(CONTROL, group=profile.variant), faces, seed)


def run_experiment(profile: Profile, experiment: Experiment, faces: FaceSet, seed: int) -> None:
    """Train and score the first compression student with one setting changed, taught by the profile's own teacher."""
    phase, changed, network = "student_compression", experiment.profile(profile), experiment.student_name(profile)
    self_train(changed, phase, faces, seed, name=network, teachers=profile, iterations=1, **experiment.student)
    save_predictions(changed, run_name(phase, network, seed), faces)


def run_grid(profile_name: str, todo: Sequence[Task], jobs: int, scheduler: str | None = None) -> list[str]:
    """Run tasks in `jobs` processes, or on a Dask scheduler's workers; return one line a phase.

    A failure in one stops the grid with TaskFailed. On a cluster each process has one thread. Raises what
    `cluster.backend` raises.
    """
    profile = get_profile(profile_name)
    if not todo:
        return []
    with cluster.backend(scheduler, profile, min(jobs, len(todo))):
        together = distributed.world() > 1  # several processes train each network together
        jobs = joblib.effective_n_jobs(-1) if scheduler else 1 if together else max(1, min(jobs, len(todo)))
        threads = 1 if scheduler else max(1, os.cpu_count() // jobs) if jobs > 1 else None
        with watched(profile, todo, jobs) as finished:
            return in_processes(jobs, (joblib.delayed(run_task)(profile_name, task, threads) for task in todo), finished)


def in_processes(jobs: int, calls: Iterable, finished: Callable[[list[str]], None]) -> list[str]:
    """Make joblib's delayed calls in `jobs` processes, each taken when a process is free; return all their lines.

    `finished` is told the lines of a call when it ends.
    """
    lines = []
    for result in joblib.Parallel(n_jobs=jobs, return_as="generator_unordered", batch_size=1, pre_dispatch=jobs)(calls):
        lines += result
        finished(result)
    return lines


def groups_of(profile: Profile, asked: Sequence[str]) -> list[str]:
    """Return groups in the order in which they are run; `main` stands for the profile's main job."""
    methods = (METHODS,) if len(profile.data.methods) > 1 else ()
    wanted = {name for group in asked for name in ((*profile.main_job, *methods) if group == MAIN else (group,))}
    return [name for name in (NOTEBOOKS, *GROUPS, METHODS) if name in wanted]


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m utils.run.grid", description="Train and score, resumably.")
    parser.add_argument("--profile", default="synthff", choices=sorted(PROFILES))
    parser.add_argument("--groups", nargs="+", choices=(*GROUPS, NOTEBOOKS, METHODS, MAIN), default=list(GROUPS))
    parser.add_argument("--seeds", nargs="+", type=at_least(0), default=(), help="default: those of each group in the profile")
    parser.add_argument("--models", nargs="+", choices=CASE_NETWORKS, default=CASE_NETWORKS, help="of the cases")
    parser.add_argument("--people", nargs="+", type=int, default=LABELLED_PEOPLE, help="with labels, of the group labels")
    parser.add_argument("--factors", nargs="+", default=(), help="of the group ablation; default: all")
    parser.add_argument("--jobs", type=processes, default=1 if torch.cuda.is_available() else os.cpu_count())
    cluster.add_flag(parser)
    arguments = parser.parse_args()
    try:
        profile = get_profile(arguments.profile)
        chosen = (arguments.seeds, arguments.models, arguments.people, arguments.factors)
        groups = [tasks(profile, group, *chosen) for group in groups_of(profile, arguments.groups)]  # all is asked for rightly
        for todo in groups:  # one after the other
            run_grid(arguments.profile, todo, arguments.jobs, arguments.scheduler)
    except (ValueError, OSError, TaskFailed, cluster.ClusterError) as error:
        parser.exit(2, f"error: {error}\n")


if __name__ == "__main__":
    main()
