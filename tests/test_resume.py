"""--resume continues exactly where the run was, or one line says why not."""

import json
import shutil
from pathlib import Path

import pytest
from conftest import files, refused, same_weights, small

import train
from nerc.store.records import read_run
from nerc.training.checkpoints import Checkpoints
from nerc.training.resume import differences


@pytest.fixture
def repo(killed, tmp_path):
    """A store with an interrupted run, which the test may change."""
    return shutil.copytree(killed, tmp_path / "models")


@pytest.fixture
def flags(folder, encoder, repo):
    return [*small(folder, encoder), "--repo", str(repo), "--checkpoint-every", "1"]


def interrupted(repo):
    return sorted((repo / ".checkpoints/model_primary").glob("update_*"))


def test_a_killed_run_resumes_and_ends_as_if_it_had_not_been_killed(store, repo, flags, capsys):
    newest = int(interrupted(repo)[-1].name[7:14])
    train.main([*flags, "--resume"])
    assert f"resumed after update {newest} of 18" in capsys.readouterr().out
    assert same_weights(store, repo)
    assert [entry.name for entry in repo.iterdir()] == ["model_primary"]
    logs = {name for name in files(repo) if "/logs/" in name}
    assert files(repo) - logs == {name for name in files(store) if "/logs/" not in name}
    run = json.loads((repo / "model_primary/run.json").read_text())
    assert run["resumed_at"] == [newest] and [e["number"] for e in run["epochs"]] == [1, 2]


def test_a_finished_run_has_nothing_left_to_do(store, folder, encoder, tmp_path, capsys):
    repo = shutil.copytree(store, tmp_path / "models")
    before = {path: path.stat().st_mtime_ns for path in repo.rglob("*")}
    train.main([*small(folder, encoder), "--repo", str(repo), "--resume"])
    assert "is finished: nothing is left to do" in capsys.readouterr().out
    assert {path: path.stat().st_mtime_ns for path in repo.rglob("*")} == before
    message = refused(
        train, capsys, *small(folder, encoder), "--repo", repo, "--resume", "--seed", 5
    )
    assert "is of another run: --seed was 0, is 5" in message


def test_without_a_checkpoint_resume_starts_from_the_beginning(store, folder, encoder, tmp_path):
    train.main([*small(folder, encoder), "--repo", str(tmp_path), "--resume"])
    assert same_weights(store, tmp_path)


def test_a_kill_while_checkpoints_are_removed_leaves_nothing_to_do(killed, repo, flags, capsys):
    train.main([*flags, "--resume"])
    shutil.copytree(killed / ".checkpoints", repo / ".checkpoints")  # not cleaned up yet
    capsys.readouterr()
    train.main([*flags, "--resume"])
    assert "nothing is left to do" in capsys.readouterr().out
    assert [entry.name for entry in repo.iterdir()] == ["model_primary"]


def test_an_interrupted_run_is_not_discarded_without_overwrite(repo, flags, store, capsys):
    before = interrupted(repo)
    message = refused(train, capsys, *flags)
    assert "give --resume to continue it, or --overwrite to start again" in message
    assert interrupted(repo) == before
    train.main([*flags, "--overwrite"])
    out = capsys.readouterr().out
    assert "resumed after" not in out and "is discarded" in out
    assert same_weights(store, repo)


def test_a_changed_configuration_is_refused_with_the_difference(repo, flags, store, capsys):
    before = interrupted(repo)
    message = refused(train, capsys, *flags, "--resume", "--lr", "0.002", "--epochs", "3")
    assert "--lr was 0.001, is 0.002; --epochs was 2, is 3;" in message
    assert interrupted(repo) == before
    train.main([*flags, "--resume", "--micro-batch-words", "1000"])  # which changes nothing
    assert same_weights(store, repo)


def test_another_place_and_flags_that_nerc_no_longer_has_are_no_change(killed):
    now = read_run(killed / ".checkpoints/model_primary")
    config = now["config"] | {"cuda_graphs": False, "num_threads": 9, "corpus": "/old/corpus"}
    config["encoder"] = f"/old/{Path(now['config']['encoder']).name}"
    assert differences(now | {"config": config}, now) == []
    changed = now | {"config": config | {"encoder": "/old/other", "seed": 5}}
    assert [text.partition(" ")[0] for text in differences(changed, now)] == ["--encoder", "--seed"]


def test_a_changed_corpus_is_refused_with_the_difference(repo, flags, folder, tmp_path, capsys):
    corpus = shutil.copytree(folder, tmp_path / "moved")
    with (corpus / "valid.txt").open("a") as file:
        file.write("\n\nmore O\n")
    before = interrupted(repo)
    message = refused(train, capsys, *flags, "--corpus", corpus, "--resume")
    assert "the validation split was 23 sentences (SHA-256" in message and "is 24 sent" in message
    assert interrupted(repo) == before


def test_the_same_corpus_in_another_place_is_the_same(repo, flags, folder, tmp_path, store):
    corpus = shutil.copytree(folder, tmp_path / "moved")
    train.main([*flags, "--corpus", str(corpus), "--resume"])
    assert same_weights(store, repo)


def test_a_revision_in_the_way_is_refused_before_the_work(repo, flags, store, capsys):
    shutil.copytree(store / "model_primary", repo / "model_primary")  # made by another run
    before = interrupted(repo)
    message = refused(train, capsys, *flags, "--resume")
    assert "revision model_primary is in" in message and "--overwrite" in message
    assert interrupted(repo) == before
    train.main([*flags, "--resume", "--overwrite"])
    assert "resumed after" in capsys.readouterr().out
    run = json.loads((repo / "model_primary/run.json").read_text())
    assert run["resumed_at"] and [entry.name for entry in repo.iterdir()] == ["model_primary"]


def test_a_damaged_checkpoint_is_skipped_with_a_note(repo, flags, store, capsys):
    older, newest = interrupted(repo)
    newest.write_bytes(newest.read_bytes()[:-100])
    train.main([*flags, "--resume"])
    out = capsys.readouterr().out
    assert f"{newest}: is damaged and skipped" in out
    assert f"resumed after update {int(older.name[7:14])} of 18" in out
    assert same_weights(store, repo)


def test_where_every_checkpoint_is_damaged_the_run_is_refused(repo, flags, capsys):
    for path in interrupted(repo):
        path.write_bytes(b"")
    assert "none of the checkpoints can be read" in refused(train, capsys, *flags, "--resume")
    assert interrupted(repo)


@pytest.mark.parametrize("content", [None, "{", '{"id": "x", "config": {}}', "[]"])
def test_without_the_record_of_the_run_nothing_is_discarded(repo, flags, store, capsys, content):
    record = repo / ".checkpoints/model_primary/run.json"
    record.unlink()
    if content:
        record.write_text(content)
    before = interrupted(repo)
    message = refused(train, capsys, *flags, "--resume")
    assert "run.json: is missing or damaged; give --overwrite without --resume" in message
    assert interrupted(repo) == before
    train.main([*flags, "--overwrite"])
    assert same_weights(store, repo)


def test_a_revision_with_a_damaged_record_can_be_overwritten(store, folder, encoder, tmp_path):
    repo = shutil.copytree(store, tmp_path / "models")
    (repo / "model_primary/run.json").write_text("{")
    train.main([*small(folder, encoder), "--repo", str(repo), "--overwrite"])
    assert json.loads((repo / "model_primary/run.json").read_text())["kept_epoch"]


def test_lost_curves_do_not_stop_the_run(repo, flags, store, capsys):
    shutil.rmtree(repo / ".checkpoints/model_primary/logs")
    (repo / ".checkpoints/model_primary/.snapshot").mkdir()  # file systems have such folders
    train.main([*flags, "--resume"])
    assert "the curves will have a gap" in capsys.readouterr().out and same_weights(store, repo)


def test_a_run_ended_by_a_full_disk_resumes_when_there_is_room(
    folder, encoder, store, small_disk, tmp_path, capsys, monkeypatch
):
    repo = small_disk / "models"
    status = tmp_path / "status.json"
    flags = [*small(folder, encoder), "--repo", repo, "--checkpoint-every", "4"]
    write = Checkpoints.write

    def fill_and_write(self, tensors, progress):
        if progress["update"] == 12:
            free = shutil.disk_usage(small_disk).free
            (small_disk / "ballast").write_bytes(bytes(free - 2**14))
        write(self, tensors, progress)

    monkeypatch.setattr(Checkpoints, "write", fill_and_write)
    message = refused(train, capsys, *flags, "--status", status)
    assert "no room on the disk while writing" in message and "update_0000012" in message
    assert [path.name for path in interrupted(repo)] == [
        "update_0000004.safetensors",
        "update_0000008.safetensors",
    ]
    found = json.loads(status.read_text())
    assert found["state"] == "failed" and "No space left" in found["error"]
    monkeypatch.undo()
    (small_disk / "ballast").unlink()
    train.main([*map(str, flags), "--resume"])
    assert "resumed after update 8 of 18" in capsys.readouterr().out
    assert same_weights(store, repo)
