"""How far a grid is, and how long it will still take: by the steps of its fits, each weighed by what its network costs."""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import contextmanager
from functools import partial

from tqdm import tqdm

from utils.config import Profile
from utils.faces.survey import duration
from utils.run import costs

Weigh = Callable[[Profile, object], dict[costs.Fit, float]]
LOOK = 5  # seconds between two looks at the run folders


class Progress:
    """Watches the run folders of tasks, on this machine or any that shares them.

    `weigh` gives a task's fits with their costs; one that several tasks need counts where it comes first. `speed`, in units
    of cost a second and process, is what is believed until something is done.
    """

    def __init__(self, profile: Profile, todo: Sequence, jobs: int, weigh: Weigh | None = None, speed: float | None = None):
        self.profile, self.jobs, self.began, self.speed = profile, max(1, jobs), time.monotonic(), speed
        weigh, seen = weigh or partial(by_rates, costs.load_rates()), set()
        self.weights: list[dict[costs.Fit, float]] = []
        for task in todo:
            found = weigh(profile, task)
            new = {fit: cost for fit, cost in found.items() if (fit.experiment, fit.run) not in seen}
            seen |= {(fit.experiment, fit.run) for fit in new}
            self.weights.append(new)
        self.total = sum(sum(fits.values()) for fits in self.weights)
        self.before = self.total - sum(self.left())

    def left(self) -> list[float]:
        """Return what is left of each task, in units of cost."""
        return [sum(cost * (1 - self._done(fit)) for fit, cost in fits.items()) for fits in self.weights]

    def _done(self, fit: costs.Fit) -> float:
        """Return the part of a fit's steps that are behind it: all with a result, else by its log's last line."""
        folder = costs.folder(self.profile, fit)
        if (folder / "result.json").is_file():
            return 1.0
        try:
            return min(1.0, json.loads((folder / "log.jsonl").read_text().splitlines()[-1])["step"] / fit.steps)
        except (OSError, IndexError, KeyError, ValueError):  # not begun, or a line half written
            return 0.0

    def estimate(self) -> tuple[float, float | None]:
        """Return the part that is done, and the seconds left (None before anything was done to judge by).

        Each of the processes goes on at its mean speed up to now; no task is shared, so that the longest one ends last.
        """
        left = self.left()
        done, speed = self.total - sum(left), self.speed
        if done > self.before:
            speed = (done - self.before) / (time.monotonic() - self.began) / min(self.jobs, len(left))
        part = done / self.total if self.total else 1.0
        return part, max(sum(left) / min(self.jobs, len(left)), max(left)) / speed if speed else None

    def line(self, title: str = "grid") -> str:
        """Return "grid: 40 %, about 6 min left"."""
        part, seconds = self.estimate()
        return f"{title}: {100 * part:.0f} %" + (f", about {duration(seconds)} left" if seconds and part < 1 else "")


@contextmanager
def watched(profile: Profile, todo: Sequence, jobs: int, title: str = "grid", **options):
    """Show the progress of tasks while they run: a bar on a terminal, elsewhere a line at each 5 % and each finished task.

    Yields a function to call with the lines of a finished task. `options` are those of Progress. TQDM_DISABLE turns all of
    it off.
    """
    if os.environ.get("TQDM_DISABLE") or not todo:
        yield lambda lines: None
        return
    progress, stop, shown = Progress(profile, todo, jobs, **options), threading.Event(), [-1]
    bar = tqdm(total=100, bar_format="{desc} |{bar}|") if sys.stderr.isatty() else None

    def show(finished: bool = False) -> None:
        line, percent = progress.line(title), int(100 * progress.estimate()[0])
        if bar:
            bar.set_description_str(line, refresh=False)
            bar.n = percent
            bar.refresh()
        elif finished or percent // 5 > shown[0] // 5:
            print(line, file=sys.stderr, flush=True)
        shown[0] = percent

    def look() -> None:
        while not stop.wait(LOOK):
            show()

    watcher = threading.Thread(target=look, daemon=True)
    watcher.start()
    try:
        yield lambda lines: show(finished=True)
    finally:
        stop.set()
        watcher.join()
        if bar:
            bar.close()


def by_rates(rates: costs.Rates, profile: Profile, task) -> dict[costs.Fit, float]:
    """Return the fits of a task of the grid with their costs: seconds by measured rates, or where there are none pixels."""
    measured = {fit: costs.seconds(fit, rates) for fit in costs.fits(profile, task)}
    return {fit: found[0] if found else fit.steps * fit.images * fit.px**2 * 1e-6 for fit, found in measured.items()}
