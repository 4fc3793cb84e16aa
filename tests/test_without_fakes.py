"""The comparison of what is learned without fakes: who learns from what, students of twins, tests that are scored once."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from fake_faces import make_faces, small_network, tiny_profile
from sklearn.metrics import roc_auc_score
from test_study_run import git, older

from utils.config import (
    REDRAWERS,
    WITHOUT_FAKES,
    FacesConfig,
    ModelConfig,
    RedrawerConfig,
    TrainConfig,
    WithoutFakesConfig,
)
from utils.learn import checkpoints, self_rendered
from utils.learn import without_fakes as ours
from utils.learn.dataset import FaceSet
from utils.learn.precision import cpu_kind
from utils.learn.pseudo_labels import PseudoLabels
from utils.learn.self_rendered import AgainstTwins, StudentOfTwins, TwinMaker
from utils.paths import FAKELESS, FAKELESS_PROTOCOL, ROOT, read_json, write_json
from utils.results import without_fakes as results
from utils.run import without_fakes as run
from utils.run.study import require_amended

SIZE, STAGES = 48, WithoutFakesConfig().stages()
CPU = torch.device("cpu")
PROTOCOL = "f00d" * 10  # a commit


@pytest.fixture
def profile(tmp_path, monkeypatch):
    """Return a tiny profile whose arms have a tiny network and redrawers of two steps, and where landmarks are made up."""
    torch.set_num_threads(1)
    tiny = tiny_profile(tmp_path / "work", align=True, teacher_view="c23", student_views=("c23", "c40"), degrade="h264")
    tiny = replace(tiny, train=replace(tiny.train, precision="fp32", keep="last", scorer="torch"), faces=FacesConfig(size=SIZE))
    quick = {name: RedrawerConfig(steps=2, batch=2) for name in REDRAWERS}
    points = np.random.default_rng(0).uniform(0.55, 0.85, (68, 2)).astype(np.float32) * SIZE
    for module in (self_rendered, run):
        monkeypatch.setattr(module, "REDRAWERS", quick)
    monkeypatch.setattr(self_rendered, "landmarks", lambda crops, scale: np.repeat(points[None], len(crops), 0))
    monkeypatch.setattr(ours, "create_model", lambda name, config, seed: small_network(seed=seed, px=16))
    monkeypatch.setattr(checkpoints, "create_model", lambda name, config, seed=0: small_network(px=16))
    monkeypatch.setattr(ours, "get_profile", lambda name: tiny)
    monkeypatch.setattr(ours, "WithoutFakesConfig", lambda: WithoutFakesConfig(steps=2, student_steps=2))
    return ours.fakeless_profile()


@pytest.fixture
def faces():
    return make_faces(train=4, val=2, test=2, frames=2, size=SIZE, test_hard=2)


def test_every_arm_is_in_one_stage_and_goes_on_from_one_of_the_same_people():
    cells = [cell for stage in STAGES.values() for cell in stage]
    assert {arm for arm, _ in cells} == set(WITHOUT_FAKES) and len(cells) == len(set(cells))
    for arm in WITHOUT_FAKES.values():
        if arm.start == "imagenet":
            assert not arm.pool
        else:
            before = WITHOUT_FAKES[arm.start]
            assert before.start == "imagenet" and (before.everybody, before.learns) == (arm.everybody, arm.learns)
    kinds = {name: one.kind for name, one in REDRAWERS.items()}
    for kind in set(kinds.values()):
        assert {kinds[name] for name in WITHOUT_FAKES[f"only_{kind}"].settings.redrawers} == {kind}
    for name in REDRAWERS:
        assert set(REDRAWERS) - set(WITHOUT_FAKES[f"without_{name}"].settings.redrawers) == {name}
        assert run.judging(f"without_{name}") == [name]
    assert run.judging("self_rendered") == list(REDRAWERS) and run.judging("self_blended") == run.judging("labels_66") == []


@pytest.mark.parametrize("arm", ["self_rendered", "self_rendered_66", "self_blended"])
def test_who_learns_without_fakes_is_given_none(profile, faces, monkeypatch, arm):
    given = {}

    def watched(model, train, val, *rest, **options):
        given.update(train=train, val=val, about=options["about"])
        return model

    monkeypatch.setattr(ours, "fit", watched)
    ours.train_arm(profile, arm, faces, 0)
    assert set(given["train"].index["label"]) == {0} and set(given["train"].index["quality"]) == {"c23"}
    assert set(given["train"].index["split"]) == {"train"}
    assert set(given["val"].index["method"]) == {"original", "self_rendered"}
    assert len(given["train"].pairs) == (2 if arm.endswith("66") else 4)


def test_a_student_of_twins_sees_the_other_people_and_its_control_does_not(profile, faces, monkeypatch):
    seen, fit = {}, ours.fit

    def watched(model, train, val, config, shared, folder, **options):
        found = options["make_objective"](train, config, shared, torch.Generator().manual_seed(0))
        seen[folder.name] = (train, found)
        return fit(model, train, val, config, shared, folder, **options)

    monkeypatch.setattr(ours, "fit", watched)
    for arm in ("self_rendered_66_longer", "self_rendered_66_student"):
        assert ours.train_arm(profile, arm, faces, 0) is not None
    names = {arm: ours.run_of(profile, arm, 0) for arm in WITHOUT_FAKES}
    (train, before), (_, longer), (_, student) = (seen[names[f"self_rendered_66{end}"]] for end in ("", "_longer", "_student"))
    assert type(before) is type(longer) is AgainstTwins and type(student) is StudentOfTwins
    assert before.operations == 0 < longer.operations == student.operations
    other = faces.select(split="train", pairs=faces.select(split="train").pairs - train.pairs)
    assert len(student.inputs_u) == len(other) // 2 and student.inputs_u.qualities == ["c23", "c40"]
    kept = student.pseudo.p["c23"].argmax(1)
    assert 0 < kept.float().mean() < 1  # half of the clips are called fake
    config = checkpoints.read_json(profile.workspace.runs / names["self_rendered_66_student"] / "config.json")
    assert config["starts_from"] == checkpoints.run_hash(profile, "self_rendered_66", profile.student_model, 0)


def test_a_step_of_a_student_of_twins_has_twins_pool_and_goes_on_from_its_state(profile, faces):
    student = ours.student_of(profile)
    real = self_rendered.originals(faces, "train", "c23")
    pool = faces.select(split="train").hide_labels(0)
    p = torch.tensor([[0.9, 0.1], [0.2, 0.8]]).repeat(len(pool) // 2 + 1, 1)[: len(pool)]
    pseudo = PseudoLabels(pool.clip, dict.fromkeys(pool.qualities, p), dict.fromkeys(pool.qualities, torch.arange(len(pool))))
    points = np.repeat(np.random.default_rng(0).uniform(20, 40, (1, 68, 2)).astype(np.float32), len(real), 0)

    def made(seed=0):
        return StudentOfTwins(
            real, ModelConfig(px=32, batch_size=4), TrainConfig(), torch.Generator().manual_seed(seed), make=TwinMaker(),
            points=points, settings=WITHOUT_FAKES["self_rendered"].settings, inputs_u=pool, pseudo=pseudo, student=student,
        )  # fmt: skip

    one, two = made(), made(5)
    plan = one.plan()
    assert plan.x.twins and len(plan.x) == 4 and sum(map(len, plan.u)) == student.mu * 4
    pixels = one.read(plan.crops)
    images = one.noise(plan, pixels, 32, CPU)
    assert images.shape == (4 + student.mu * 4, 3, 32, 32) and images.isfinite().all()
    logits = torch.tensor([[1.0, -1.0], [-1.0, 1.0]] * 2 + [[0.0, 0.0]] * (student.mu * 4), requires_grad=True)
    losses = one.compare(plan, logits)
    assert losses["Lx"].item() == pytest.approx(np.log1p(np.exp(-2))) and losses["Lu"].item() == pytest.approx(np.log(2))
    assert losses["loss"].item() == pytest.approx((losses["Lx"] + student.lambda_u * losses["Lu"]).item())
    two.load_state_dict(plan.after)
    after, again = one.plan(), two.plan()
    for a, b in zip(after.crops, again.crops, strict=True):
        assert np.array_equal(a.items, b.items) and np.array_equal(a.strengths, b.strengths)
    assert np.array_equal(after.x.crops.drawn, again.x.crops.drawn)


def test_twins_of_other_redrawers_than_before_are_judged_anew(profile, faces, monkeypatch):
    arm, kept = "without_code_fine", []
    ours.train_arm(profile, arm, faces, 0)
    first = ours.score_twins(profile, arm, faces, 0, ["code_fine"])
    monkeypatch.setattr(ours, "predict_faces", lambda model, part, *rest: kept.append(1) or np.zeros(len(part)))
    again = ours.score_twins(profile, arm, faces, 0, ["code_fine"])
    assert again["auc"].tolist() == pytest.approx(first["auc"].tolist(), abs=1e-5) and not kept
    monkeypatch.setattr(ours, "judges_of", lambda *rest: {"code_fine": "another"})
    assert set(ours.score_twins(profile, arm, faces, 0, ["code_fine"])["auc"]) == {0.5} and kept
    monkeypatch.setattr(ours, "judges_of", lambda *rest: {"code_fine": "a third"})
    monkeypatch.setattr(ours, "predict_faces", lambda model, part, *rest: part.labels.numpy().astype(float))
    assert set(ours.score_twins(profile, arm, faces, 0, ["code_fine"])["auc"]) == {1.0}


def test_labels_beside_twins_go_through_as_much_compression(profile, faces, monkeypatch):
    given = {}
    monkeypatch.setattr(ours, "fit", lambda model, train, *rest, **options: given.update(train=train, **options) or model)
    ours.train_arm(profile, "labels_66", faces, 0)
    found = given["make_objective"](given["train"], ModelConfig(px=16, batch_size=4), TrainConfig(), torch.Generator())
    assert found.how == "h264" and found.student.degraded_share == WITHOUT_FAKES["labels_66"].settings.degraded_share
    assert found.operations == 0 and set(given["train"].index["label"]) == {0, 1} and given["train"].qualities == ["c23"]
    ours.train_arm(profile, "labels_66_c40", faces, 0)
    assert given["train"].qualities == ["c23", "c40"]


@pytest.fixture
def small(profile, faces, tmp_path, monkeypatch):
    """Let the command run on the tiny profile, with two arms a stage and in this process."""
    monkeypatch.setattr(run, "load_faces", lambda profile: faces)
    stages = {
        "arms": (("labels_66", 0), ("self_rendered", 0), ("self_rendered", 1)),
        "redrawers": (("without_code_fine", 0), ("only_detail", 0)),
        "kinds": (("only_context", 0),),
    }
    monkeypatch.setattr(run, "WithoutFakesConfig", lambda: type("Few", (), {"stages": lambda self: stages})())
    monkeypatch.setattr(run, "in_processes", lambda jobs, calls, told: [told(call[0](*call[1])) for call in calls])
    monkeypatch.setattr(run, "FAKELESS", tmp_path / "committed")
    return stages


def test_a_stage_is_trained_scored_once_and_read_again(small, profile, tmp_path, capsys):
    out = tmp_path / "tables"
    asked = ["--stages", "arms", "--score", "--protocol", PROTOCOL, "--out", str(out)]
    run.main(asked)
    found = results.load_scores(out)
    assert set(found["split"]) == {"val", "test", "test_hard"} and set(found["arm"]) == {"labels_66", "self_rendered"}
    assert not found["pair"].isna().any() and found.groupby(["arm", "split"])["label"].nunique().eq(2).all()
    assert read_json(out / results.RECORD)["arms"]["protocol"] == PROTOCOL
    tables = results.tables(20, out)
    assert set(tables) == {"fakeless_arms", "fakeless_contrasts", "fakeless_twins"}
    assert tables["fakeless_contrasts"].iloc[0][["these", "those", "primary"]].tolist() == ["self_rendered", "labels_66", True]
    twins = results.load_twins(out)
    assert set(twins["redrawer"]) == set(REDRAWERS) and twins["auc"].between(0, 1).all()
    one = tables["fakeless_twins"].set_index(["redrawer", "quality"]).loc[("code_fine", "c40")]
    some = twins.query("arm == 'self_rendered' and redrawer == 'code_fine' and quality == 'c40'")["auc"]
    assert one["seeds"] == 2 == len(some) and one["auc"] == pytest.approx(some.mean())
    run.main(["--stages", "redrawers", "--score", "--protocol", PROTOCOL, "--out", str(out)])
    assert set(results.load_scores(out)["arm"]) == {"labels_66", "self_rendered", "without_code_fine", "only_detail"}
    tables = results.tables(20, out)
    assert tables["fakeless_redrawers"]["redrawer"].tolist() == ["code_fine"] * 2
    kinds = tables["fakeless_kinds"]
    assert set(kinds["kind"]) == {"detail"} and set(kinds["seeds"]) == {1}  # the one seed that both have
    everything = results.load_scores(out).query("split == 'test' and quality == 'c40' and seed == 0")
    ours, all_kinds = (roc_auc_score(part["label"], part["score"]) for part in
                       (everything[everything["arm"] == arm] for arm in ("only_detail", "self_rendered")))  # fmt: skip
    assert kinds.query("split == 'test' and quality == 'c40'")["value"].item() == pytest.approx(ours - all_kinds)
    run.main(["--score", "--protocol", PROTOCOL, "--out", str(out)])  # what is left: kinds
    assert results.load_twins(out)["arm"].tolist() == [*twins["arm"], *["without_code_fine"] * 2]  # nobody is judged there
    with pytest.raises(SystemExit):
        run.main([*asked, "--seeds", "1"])
    assert "scored once, with all arms and seeds" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        run.main(["--score", "--protocol", PROTOCOL, "--out", str(out)])
    assert "all stages are scored in" in capsys.readouterr().err


def test_a_stage_is_not_scored_twice_and_its_protocol_is_a_commit(small, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(run, "run_all", lambda *given: pytest.fail("something was trained or scored"))
    out, asked = tmp_path / "tables", ["--stages", "arms", "--score", "--protocol"]
    for folder in (out, run.FAKELESS):
        folder.mkdir()
        (folder / "arms.csv.gz").write_bytes(b"scores")
        with pytest.raises(SystemExit):
            run.main([*asked, PROTOCOL, "--out", str(folder)])
        assert "exist already" in capsys.readouterr().err and (folder / "arms.csv.gz").read_bytes() == b"scores"
    (out / "arms.csv.gz").unlink()
    for wrong in ("abc", "HEAD", PROTOCOL.upper()):
        with pytest.raises(SystemExit):
            run.main([*asked, wrong, "--out", str(out)])
        assert f"--protocol {wrong}: give the 40 digits of its commit" in capsys.readouterr().err


@pytest.mark.parametrize("wrong", [["--seeds", "99"], ["--jobs", "0"], ["--steps", "0"]])
def test_requests_that_name_nothing_are_refused(small, wrong, capsys):
    with pytest.raises(SystemExit) as ended:
        run.main(["--stages", "arms", *wrong])
    assert ended.value.code == 2 and "error: " in capsys.readouterr().err


def test_pilots_are_added_and_those_of_before_stay(small, profile, tmp_path):
    run.run_all(small["kinds"], None, 1)
    first = run.gather_pilots(profile, small["kinds"], tmp_path)
    others = first.assign(arm="self_rendered", auc_c40=0.25)
    pd.concat([first.assign(auc_c40=0.125), others]).to_csv(tmp_path / results.PILOTS, index=False)
    again = run.gather_pilots(profile, small["kinds"], tmp_path).set_index("arm")["auc_c40"]
    assert again.to_dict() == {"self_rendered": 0.25, "only_context": pytest.approx(first["auc_c40"].item(), abs=1e-4)}


def test_a_repeat_stands_beside_the_committed_scores(small, profile, tmp_path):
    asked = ["--stages", "kinds", "--score", "--protocol", PROTOCOL, "--out"]
    run.main([*asked, str(run.FAKELESS)])
    before = (run.FAKELESS / "kinds.csv.gz").read_bytes()
    run.main([*asked, str(tmp_path / "again")])
    scores = [results.load_scores(folder)["score"] for folder in (run.FAKELESS, tmp_path / "again")]
    assert scores[0].equals(scores[1]) and (run.FAKELESS / "kinds.csv.gz").read_bytes() == before


def test_a_stage_that_was_killed_at_its_end_can_be_scored_again(small, tmp_path, monkeypatch):
    out = tmp_path / "tables"
    asked = ["--stages", "arms", "--score", "--protocol", PROTOCOL, "--out", str(out)]
    for broken in ("write_json", "write_scores", "sha256"):
        with monkeypatch.context() as patch:
            patch.setattr(run, broken, lambda *given: (_ for _ in ()).throw(KeyboardInterrupt))
            with pytest.raises(KeyboardInterrupt):
                run.main(asked)
        assert not (out / "arms.csv.gz").exists()
    run.main(asked)
    assert set(results.load_scores(out)["arm"]) == {"labels_66", "self_rendered"}


def test_the_record_names_the_processors_that_trained(small, profile, tmp_path):
    out = tmp_path / "tables"
    run.run_all(small["arms"], None, 1, run.TESTS)
    path = profile.workspace.runs / ours.run_of(profile, *small["arms"][0]) / "config.json"
    config = read_json(path)
    assert config["machine"]["name"] == cpu_kind()
    write_json(path, config | {"machine": config["machine"] | {"name": "another kind"}})
    run.gather(profile, "arms", small["arms"], out, PROTOCOL)
    assert read_json(out / results.RECORD)["arms"]["device"] == ", ".join(sorted(["another kind", cpu_kind()]))


def test_scores_that_were_edited_are_refused(small, tmp_path):
    out = tmp_path / "tables"
    run.main(["--stages", "arms", "--score", "--protocol", PROTOCOL, "--out", str(out)])
    (path,) = out.glob("arms.csv.gz")
    pd.read_csv(path).assign(score=0.5).to_csv(path, index=False)
    with pytest.raises(ValueError, match="arms.csv.gz: not what was written.*git checkout"):
        results.load_scores(out)
    assert results.load_scores(tmp_path).empty and results.tables(20, tmp_path) == {}


def test_the_protocol_says_the_numbers_of_the_code():
    rows = dict(re.findall(r"^\| ([\w, ]+) \| ([\w.]+) \|$", FAKELESS_PROTOCOL.read_text(), re.MULTILINE))
    numbers, profile = WithoutFakesConfig(), ours.fakeless_profile()
    model, settings = profile.model(profile.student_model), WITHOUT_FAKES["self_rendered"].settings
    assert rows.pop("number") == "value" and rows == {
        f"seeds of {', '.join(numbers.most[:-1])} and {numbers.most[-1]}": str(len(numbers.seeds)),
        "seeds of all other arms": str(len(numbers.fewer_seeds)),
        "seeds of arms that lack one redrawer": str(len(numbers.left_out_seeds)),
        "steps": str(model.steps), "student_steps": str(numbers.student_steps), "redrawers": str(len(settings.redrawers)),
        "degraded_share": str(settings.degraded_share), "px": str(model.px), "batch_size": str(model.batch_size),
        "precision": profile.train.precision,
    }  # fmt: skip
    told = FAKELESS_PROTOCOL.read_text()
    for arm, about in WITHOUT_FAKES.items():
        assert f"`{arm}`" in told or about.stage != "arms" or arm.endswith(("_longer", "_student"))


def test_the_protocol_is_older_than_the_committed_scores():
    if git(ROOT, "rev-parse", "--is-shallow-repository").strip() != "false":
        pytest.skip("needs the repository's whole history")
    records = read_json(FAKELESS / results.RECORD)
    assert {results.scores_file(stage) for stage in records} == {path.name for path in FAKELESS.glob("*.csv.gz")}
    for stage, record in records.items():
        name = (FAKELESS / results.scores_file(stage)).relative_to(ROOT).as_posix()
        assert older(ROOT, record["protocol"], name), name
        latest = git(ROOT, "log", "-1", "--format=%H", "--", FAKELESS_PROTOCOL.relative_to(ROOT).as_posix()).strip()
        require_amended([record["protocol"]], latest, FAKELESS_PROTOCOL)


def test_a_faces_landmarks_are_found_once(profile, faces, monkeypatch):
    real, calls = self_rendered.originals(faces, "val", "c23"), []
    found = self_rendered.landmarks
    monkeypatch.setattr(self_rendered, "landmarks", lambda *given: calls.append(1) or found(*given))
    one, two = (self_rendered.landmarks_of(real, profile) for _ in range(2))
    assert np.array_equal(one, two) and len(calls) == 1
    (path,) = profile.workspace.faces.glob("landmarks-*.npy")
    path.write_bytes(path.read_bytes()[:100])  # damaged: found again
    assert np.array_equal(self_rendered.landmarks_of(real, profile), one) and len(calls) == 2
    other = FaceSet(real.index.iloc[:2], real.pixels)
    assert self_rendered.landmarks_of(other, profile).shape == (2, 68, 2) and len(calls) == 3
