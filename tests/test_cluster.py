"""A real scheduler and two worker processes on this machine, one of which is killed half-way."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import subprocess
import sys
import threading
import time

import joblib
import numpy as np
import pandas as pd
import pytest
import torch
from cluster_profile import NAME, PROFILE

from utils import config, paths
from utils.config import ABLATIONS
from utils.faces.crops import extract_all
from utils.faces.ffpp import load_index
from utils.run import cluster, grid

config.PROFILES.pop(NAME)  # of this file's tests alone


@pytest.fixture(autouse=True)
def known_profile(monkeypatch):
    monkeypatch.setitem(config.PROFILES, NAME, PROFILE)


class Cluster:
    """A scheduler and its workers: processes of their own, as on other machines."""

    def __init__(self, folder):
        self.folder, self.file, self.processes = folder, folder / "scheduler.json", []
        environment = {"DEEPFAKE_WORK": str(folder / "work"), "PYTHONPATH": f"{paths.ROOT}:{paths.ROOT / 'tests'}"}
        self.environment = os.environ | environment | {"CUDA_VISIBLE_DEVICES": ""}
        self.start("scheduler", "--port", "0", "--scheduler-file", str(self.file))
        self.address = self.wait(lambda: self.file.is_file() and json.loads(self.file.read_text())["address"])

    def start(self, kind: str, *options: str, **environment: str) -> subprocess.Popen:
        command = [sys.executable, "-m", f"distributed.cli.dask_{kind}", "--no-dashboard", *options]
        with open(self.folder / f"{kind}-{len(self.processes)}.txt", "w") as log:
            process = subprocess.Popen(
                command, env=self.environment | environment, cwd=self.folder, stdout=log, stderr=subprocess.STDOUT
            )
        self.processes.append(process)
        return process

    def worker(self, name: str, threads: int = 1, **environment: str) -> subprocess.Popen:
        options = ["--no-nanny", "--nthreads", str(threads), "--memory-limit", "0", "--preload", "cluster_profile"]
        process = self.start("worker", self.address, "--name", name, *options, **environment)
        with self.client() as client:
            self.wait(lambda: any(worker["name"] == name for worker in workers(client).values()))
        return process

    def client(self):
        import distributed

        return distributed.Client(self.address, set_as_default=False)

    def wait(self, happens, seconds: float = 30):
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if found := happens():
                return found
            time.sleep(0.02)
        raise TimeoutError(f"nothing happened: see {self.folder}")

    def stop(self) -> None:
        for process in reversed(self.processes):
            process.kill()
            process.wait()


def workers(client) -> dict:
    return client.scheduler_info(n_workers=-1)["workers"]


def kill_half_way(machines: Cluster, victim: subprocess.Popen, name: str, keys: int) -> threading.Thread:
    """Kill a worker, as `kill -9` does, while it has work and after it has been given so many pieces of it."""

    def kill() -> None:
        seen = set()
        with machines.client() as client:
            (address,) = (key for key, worker in workers(client).items() if worker["name"] == name)

            def busy() -> bool:
                now = client.processing([address]).get(address, ())
                seen.update(now)
                return bool(now) and len(seen) >= keys

            machines.wait(busy)
        os.kill(victim.pid, signal.SIGKILL)

    killer = threading.Thread(target=kill)
    killer.start()
    return killer


@pytest.fixture(scope="module")
def machines(tmp_path_factory):
    one = Cluster(tmp_path_factory.mktemp("cluster"))
    yield one
    one.stop()


@pytest.fixture
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def test_a_scheduler_that_is_not_there_or_has_no_workers_is_named(machines, monkeypatch):
    monkeypatch.setattr(paths, "WORK", machines.folder / "work")
    monkeypatch.setattr(cluster, "SECONDS", 1)
    for address, message in (
        ("tcp://127.0.0.1:9", "no Dask scheduler at tcp://127.0.0.1:9 .*: start one with `dask scheduler`"),
        ("nonsense", "no Dask scheduler at nonsense"),
        (machines.address, "has no workers: start one with `dask worker"),
    ):
        with pytest.raises(cluster.ClusterError, match=message), cluster.backend(address, PROFILE):
            pass


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:all confident pseudo-labels")
def test_a_worker_dies_and_the_result_is_that_of_one_machine(machines, monkeypatch, one_thread):
    index, todo = load_index(PROFILE), grid.tasks(PROFILE, "comparison", [0])
    monkeypatch.setattr(paths, "WORK", machines.folder / "serial")
    serial = PROFILE.workspace
    expected = extract_all(index, PROFILE.faces, serial.faces, n_jobs=1)
    assert len(grid.run_grid(NAME, todo, jobs=1)) == 6

    monkeypatch.setattr(paths, "WORK", machines.folder / "work")
    space = PROFILE.workspace
    victim, stays = machines.worker("victim"), machines.worker("stays")
    killer = kill_half_way(machines, victim, "victim", keys=3)
    with cluster.backend(machines.address, PROFILE):
        table = extract_all(index, PROFILE.faces, space.faces)
    killer.join()
    assert victim.wait() == -signal.SIGKILL and stays.poll() is None
    pd.testing.assert_frame_equal(table, expected)
    assert np.array_equal(np.load(space.faces / "faces.npy"), np.load(serial.faces / "faces.npy"))

    victim = machines.worker("next victim")
    killer = kill_half_way(machines, victim, "next victim", keys=1)
    lines = grid.run_grid(NAME, todo, jobs=1, scheduler=machines.address)
    killer.join()
    assert victim.wait() == -signal.SIGKILL and len(lines) == 6 and all(line.endswith(": done") for line in lines)
    runs = sorted(path.relative_to(serial.runs) for path in serial.runs.rglob("model.safetensors"))
    assert len(runs) == 10
    for name in runs:
        assert (space.runs / name).read_bytes() == (serial.runs / name).read_bytes()
        scores = name.with_name("scores.csv.gz")
        assert (space.runs / scores).read_bytes() == (serial.runs / scores).read_bytes()
    assert not list(space.work.glob(".token*"))

    wrong = dataclasses.replace(ABLATIONS[0], student={"student_views": ("c17",)})
    failing = dataclasses.replace(grid.tasks(PROFILE, "ablation", [0])[0], experiment=wrong)
    with pytest.raises(grid.TaskFailed, match=f"{failing} failed: .*c17"):
        grid.run_grid(NAME, [failing], jobs=1, scheduler=machines.address)
    with pytest.raises(grid.TaskFailed, match=f"{failing} failed: .*c17"):
        grid.run_grid(NAME, [failing], jobs=1)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("threads", "environment", "message"),
    [
        (2, {}, "has 2 threads"),
        (1, {"DEEPFAKE_WORK": "/elsewhere"}, "has work /elsewhere, not .*: set DEEPFAKE_WORK to the same"),
        (1, {"DEEPFAKE_PRECISION": "fp16"}, "has precision fp16, not auto: set DEEPFAKE_PRECISION"),
    ],
)
def test_a_worker_that_would_do_otherwise_is_refused(machines, monkeypatch, threads, environment, message):
    monkeypatch.setattr(paths, "WORK", machines.folder / "work")
    worker = machines.worker(f"other {message}", threads, **environment)
    try:
        with pytest.raises(cluster.ClusterError, match=message) as caught, cluster.backend(machines.address, PROFILE):
            pass
        assert "\n" not in str(caught.value)
    finally:
        worker.kill()
        with machines.client() as client:
            machines.wait(lambda: f"other {message}" not in [w["name"] for w in workers(client).values()])


def test_other_code_and_a_folder_that_is_not_shared_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(paths, "WORK", tmp_path)

    class Workers:
        """Answers for a worker as `distributed.Client.run` does."""

        def __init__(self, **other):
            self.other = other

        def nthreads(self):
            return {"tcp://far:1": 1}

        def run(self, call, token, data, on_error):
            about, text, has_data = call(token, data)
            answer = about | {key: value for key, value in self.other.items() if key in about}
            return {"tcp://far:1": self.other.get("error") or (answer, self.other.get("text", text), has_data)}

    cluster.check_workers(Workers(), PROFILE)
    for other, message in (
        ({"code": "0123"}, "far:1 has code 0123, not .*: check out the same commit there"),
        ({"torch": "1.0"}, "far:1 has torch 1.0, not .*: install the same versions"),
        ({"text": None}, "far:1 does not see the folder .*: all machines need the same DEEPFAKE_WORK"),
        ({"error": ModuleNotFoundError("No module named 'utils'")}, r"can't run this code \(ModuleNotFoundError: No module"),
    ):
        with pytest.raises(cluster.ClusterError, match=message):
            cluster.check_workers(Workers(**other), PROFILE)
    assert not list(tmp_path.rglob(".token*"))


def test_without_the_flag_nothing_of_dask_is_imported(tmp_path):
    code = (
        "import sys; from utils.run import cluster, grid; from utils.config import get_profile\n"
        "with cluster.backend(None, get_profile('smoke')): pass\n"
        "assert not [name for name in sys.modules if name.split('.')[0] in ('dask', 'distributed')]"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=paths.ROOT, env=os.environ | {"DEEPFAKE_WORK": str(tmp_path)})


@pytest.mark.slow
def test_local_is_a_cluster_of_this_machine(tmp_path, monkeypatch):
    monkeypatch.setattr(paths, "WORK", tmp_path)
    monkeypatch.setenv("DEEPFAKE_WORK", str(tmp_path))
    monkeypatch.setenv("PYTHONPATH", str(paths.ROOT))
    slow = "(__import__('time').sleep(0.2), __import__('os').getpid())[1]"  # code of ours would import torch first
    with cluster.backend("local", PROFILE, jobs=2):
        pids = set(joblib.Parallel(batch_size=1)(joblib.delayed(eval)(slow) for _ in range(8)))
    assert len(pids) == 2 and os.getpid() not in pids
