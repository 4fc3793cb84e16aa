"""Where a packaged model is written: beside its place, which it takes only from another packaged model."""

from __future__ import annotations

from pathlib import Path

import pytest

from utils.run import package

MODEL = dict.fromkeys(package.FILES, "old")


def fill(folder: Path, files: dict[str, str]) -> Path:
    folder.mkdir(parents=True)
    for name, text in files.items():
        (folder / name).write_text(text)
    return folder


def held(folder: Path) -> dict[str, str]:
    return {path.name: path.read_text() for path in folder.iterdir()}


def put(folder: Path) -> None:
    with package.whole(folder) as making:
        (making / package.packaged.CARD).write_text("new")


@pytest.mark.parametrize("files", [None, {}, MODEL, {"card.json": "old"}])
def test_a_model_takes_the_place_of_nothing_and_of_another_model(tmp_path, files):
    folder = tmp_path / "models" / "mine"
    if files is not None:
        fill(folder, files)
    put(folder)
    assert held(folder) == {"card.json": "new"}
    assert list(folder.parent.iterdir()) == [folder]  # nothing is left beside it


@pytest.mark.parametrize(
    "files, named",
    [({"clip.mp4": "video"}, "clip.mp4"), (MODEL | {"notes.txt": "x"}, "notes.txt"), ({"README.md": "x"}, "card.json")],
)
def test_a_folder_with_anything_else_is_refused_and_stays(tmp_path, files, named):
    folder = fill(tmp_path / "clips", files)
    with pytest.raises(FileExistsError, match=f"clips (holds|lacks) .?{named}.*only a packaged model is replaced.*--out"):
        put(folder)
    assert held(folder) == files and list(tmp_path.iterdir()) == [folder]


@pytest.mark.parametrize("arguments", [["--profile", "smoke"], ["some-run"]])
def test_only_the_shipped_network_takes_its_place_unasked(arguments, capsys):
    with pytest.raises(SystemExit) as ended:
        package.main(arguments)
    assert ended.value.code == 2 and "needs a name of its own: add --name NAME or --out FOLDER" in capsys.readouterr().err


def test_a_folder_of_models_and_a_file_are_refused(tmp_path):
    model = fill(tmp_path / "models" / "card.json", MODEL)
    with pytest.raises(FileExistsError, match="holds 'card.json'"):
        put(model.parent)
    (tmp_path / "file").write_text("x")
    with pytest.raises(FileExistsError, match="file is no folder"):
        put(tmp_path / "file")
    assert held(model) == MODEL and (tmp_path / "file").read_text() == "x"


def test_what_comes_into_the_folder_meanwhile_is_not_removed(tmp_path):
    folder = fill(tmp_path / "mine", MODEL)
    with pytest.raises(FileExistsError, match="notes.txt"), package.whole(folder) as making:
        (making / "card.json").write_text("new")
        (folder / "notes.txt").write_text("x")
    assert held(folder) == MODEL | {"notes.txt": "x"}


def test_the_old_model_is_back_where_the_new_one_can_not_take_its_place(tmp_path, monkeypatch):
    folder, rename = fill(tmp_path / "mine", MODEL), Path.rename

    def fails(path: Path, to: Path) -> Path:
        if path.name == "new":
            raise OSError("no room")
        return rename(path, to)

    monkeypatch.setattr(Path, "rename", fails)
    with pytest.raises(OSError, match="no room"):
        put(folder)
    assert held(folder) == MODEL and list(tmp_path.iterdir()) == [folder]


def test_a_link_to_a_model_stays_one(tmp_path):
    folder, link = fill(tmp_path / "there" / "mine", MODEL), tmp_path / "link"
    link.symlink_to(folder)
    put(link)
    assert link.is_symlink() and held(folder) == {"card.json": "new"}


def test_it_is_refused_before_any_work(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(package, "load_faces", lambda profile: pytest.fail("work has begun"))
    folder = fill(tmp_path / "clips", {"clip.mp4": "video"})
    with pytest.raises(SystemExit) as left:
        package.main(["--out", str(folder)])
    said = capsys.readouterr().err
    assert left.value.code == 2 and said.startswith(f"error: {folder} holds 'clip.mp4'") and said.count("\n") == 1
    with pytest.raises(SystemExit):
        package.main(["post_trained-xception-s0"])  # it would take the place of the model that comes with the repository
    said = capsys.readouterr().err
    assert said == "error: post_trained-xception-s0 needs a name of its own: add --name NAME or --out FOLDER\n"
