"""Two processes train as one: the same batches, the same weights within rounding; scores in order, none twice."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace

import pytest
import torch
from fake_faces import make_faces, small_network, tiny_profile
from safetensors.torch import load_file
from two_processes import CONFIG, SHARED

from utils.learn import checkpoints, distributed
from utils.learn.plans import Plan
from utils.learn.training import Supervised
from utils.paths import ROOT

LAUNCHERS = {
    "alone": [],
    # With --cpu, accelerate's launcher starts two processes through MPI alone.
    "accelerate": ["-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", "2", "--num_machines", "1",
                   "--mixed_precision", "no", "--dynamo_backend", "no", "--main_process_port", "0"],
    "torchrun": ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"],
}  # fmt: skip


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Return the run folders of one process and of two, started in two ways, side by side."""
    made, processes = {}, {}
    for name, launcher in LAUNCHERS.items():
        made[name] = tmp_path_factory.mktemp(name)
        environment = os.environ | {"PYTHONPATH": str(ROOT), "TQDM_DISABLE": "1", "OMP_NUM_THREADS": "1"}
        command = [sys.executable, *launcher, str(ROOT / "tests" / "two_processes.py"), str(made[name])]
        processes[name] = subprocess.Popen(command, env=environment, stdout=-1, stderr=subprocess.STDOUT, text=True)
    for name, process in processes.items():
        output = process.communicate(timeout=200)[0]
        assert process.returncode == 0, f"{name}: {output}"
    return made


@pytest.mark.slow
@pytest.mark.parametrize("launcher", ["accelerate", "torchrun"])
@pytest.mark.parametrize("run", ["labels", "student"])
def test_two_processes_end_with_the_losses_and_weights_of_one(folders, launcher, run):
    one, two = (folders[name] / run for name in ("alone", launcher))
    logs = [checkpoints.read_log(folder) for folder in (one, two)]
    assert [line["step"] for line in logs[1]] == [line["step"] for line in logs[0]] == [2, 4, 6]
    for line, other in zip(*logs, strict=True):
        losses = [name for name in line if name in ("loss", "Lx", "Lu", "val_loss")]
        assert len(losses) == (4 if run == "student" else 2)
        assert [other[name] for name in losses] == pytest.approx([line[name] for name in losses], abs=1e-5)
    weights = [load_file(folder / "model.safetensors") for folder in (one, two)]
    start = small_network(dropout=0.0, normalise=False).state_dict()
    for name, value in weights[0].items():
        assert torch.allclose(weights[1][name], value, atol=1e-5)
    assert not torch.allclose(start["network.9.weight"], weights[0]["network.9.weight"], atol=1e-3)


@pytest.mark.slow
def test_scores_are_gathered_in_order_and_none_twice(folders):
    said = {name: [json.loads(path.read_text()) for path in sorted(folder.glob("said*"))] for name, folder in folders.items()}
    assert [len(each) for each in said.values()] == [1, 2, 2]
    (alone,), *pairs = said.values()
    assert len(alone["p"]) == 35 and alone["world"] == 1
    for both in pairs:
        assert both[0] == both[1] and both[0]["world"] == 2  # each process has all of them
        assert torch.allclose(torch.tensor(both[0]["p"]), torch.tensor(alone["p"]), atol=1e-4)
        assert both[0]["numbers"] == [[0], [*range(7)]]


@pytest.mark.slow
def test_phases_go_through_with_two_processes(folders):
    for name in LAUNCHERS:
        profile = tiny_profile(folders[name] / "phases")
        kept = profile.workspace.runs / "student_compression-mobilenet-v2-s0"
        assert checkpoints.load_model(kept).name == "mobilenet-v2"
        assert not list(profile.workspace.runs.rglob(".*")) and not list(profile.workspace.runs.rglob("*.pt"))


@pytest.mark.parametrize("world", [2, 3])
@pytest.mark.parametrize("twins", [True, False])
def test_shares_of_a_plan_make_the_whole(twins, world):
    train = make_faces().select(split="train")
    config = replace(CONFIG, twins=twins, batch_size=8)
    plan: Plan = Supervised(train, config, SHARED, torch.Generator().manual_seed(0)).plan()
    shares = [plan.share(rank, world) for rank in range(world)]
    assert sum((share.x.crops.items.tolist() for share in shares), []) == plan.x.crops.items.tolist()
    assert torch.equal(torch.cat([share.x.noise.theta for share in shares]), plan.x.noise.theta)
    assert all(train.labels[share.x.crops.items].float().mean() == 0.5 for share in shares)  # both classes in each
    assert sum(share.weight_x for share in shares) == pytest.approx(world)
    with pytest.raises(ValueError, match="8 faces of a batch do not go round 9 processes: start fewer"):
        [plan.share(rank, 9) for rank in range(9)]


def test_one_process_needs_no_launcher(monkeypatch):
    assert distributed.world() == 1 and distributed.rank() == 0 and distributed.is_main()
    model = small_network()
    assert distributed.together(model) is model and distributed.share_statistics(model) is model
    assert distributed.agreed(True) and not distributed.agreed(False) and distributed.gathered([3]) == [3]
