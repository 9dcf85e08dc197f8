"""A checkpoint is complete or skipped, and the curves agree with it."""

import os

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from nerc.errors import InputError
from nerc.store.revisions import Store
from nerc.training.checkpoints import Checkpoints


def write(checkpoints: Checkpoints, *updates: int) -> None:
    for update in updates:
        tensors = {"model.a": torch.full((3, 2), float(update)), "optimizer.step.a": torch.ones(())}
        checkpoints.write(tensors, {"update": update})


def read(folder) -> tuple[int, list[str]]:
    tensors, progress, notes = Checkpoints(folder).read()
    assert tensors["model.a"].eq(progress["update"]).all() and tensors["optimizer.step.a"] == 1
    return progress["update"], notes


def test_the_newest_two_are_kept(tmp_path):
    checkpoints = Checkpoints(tmp_path)
    assert checkpoints.read() is None
    write(checkpoints, 5, 7, 10_000_001, 10_000_003)
    names = ["update_10000003.safetensors", "update_10000001.safetensors"]
    assert [path.name for path in checkpoints.paths()] == names
    assert read(tmp_path) == (10_000_003, [])


def cut(content: bytes) -> bytes:
    return content[: len(content) // 2]


def flip(content: bytes) -> bytes:
    return content[:-3] + bytes([content[-3] ^ 1]) + content[-2:]


def other_number(content: bytes) -> bytes:
    assert b'\\"update\\": 9' in content
    return content.replace(b'\\"update\\": 9', b'\\"update\\": 8')


@pytest.mark.parametrize("damage", [cut, flip, other_number, lambda content: b""])
def test_a_damaged_checkpoint_is_skipped_for_the_one_before(tmp_path, damage):
    write(Checkpoints(tmp_path), 4, 9)
    newest = tmp_path / "update_0000009.safetensors"
    newest.write_bytes(damage(newest.read_bytes()))
    update, notes = read(tmp_path)
    assert update == 4 and len(notes) == 1 and f"{newest}: is damaged and skipped" in notes[0]
    assert not newest.exists(), "or it would be the newest again"


def test_if_all_are_damaged_the_run_is_refused_and_they_stay(tmp_path):
    write(Checkpoints(tmp_path), 4, 9)
    for path in tmp_path.iterdir():
        path.write_bytes(cut(path.read_bytes()))
    with pytest.raises(InputError, match="none of the checkpoints can be read"):
        Checkpoints(tmp_path).read()
    assert len(list(tmp_path.iterdir())) == 2


def test_a_half_written_checkpoint_is_removed_by_the_run_that_resumes(tmp_path):
    write(Checkpoints(tmp_path), 4)
    half = tmp_path / ".update_0000009.safetensors-abc"
    half.write_bytes(b"half")
    assert read(tmp_path)[0] == 4 and half.exists()  # another run may be writing it
    with Checkpoints(tmp_path):
        assert not half.exists()
    assert [path.name for path in tmp_path.iterdir()] == ["update_0000004.safetensors"]


def steps(folder) -> list[int]:
    events = EventAccumulator(str(folder / "logs"), purge_orphaned_data=False).Reload()
    # Sorted: files of the same second, as here alone, are read in no particular order.
    return sorted(event.step for event in events.Scalars("loss"))


def test_the_curves_are_cut_back_to_the_checkpoint_and_continue(tmp_path):
    with Checkpoints(tmp_path) as first:
        for update in range(1, 8):
            first.log("loss", 0.5, update)
            if update == 5:
                write(first, update)
    assert steps(tmp_path) == [1, 2, 3, 4, 5, 6, 7]
    for _ in range(2):  # killed again before it came to another checkpoint
        with Checkpoints(tmp_path) as second:
            second.read()
            for update in range(6, 10):
                second.log("loss", 0.5, update)
        assert steps(tmp_path) == [1, 2, 3, 4, 5, 6, 7, 8, 9]


def replace_by(make):
    def damage(path) -> None:
        path.unlink()
        make(path)

    return damage


@pytest.mark.parametrize(
    "damage",
    [
        lambda path: path.write_bytes(cut(path.read_bytes())),
        lambda path: path.unlink(),
        replace_by(lambda path: path.mkdir()),
        replace_by(lambda path: os.mkfifo(path)),
        replace_by(lambda path: path.symlink_to("nowhere")),
        replace_by(lambda path: path.symlink_to("/dev/zero")),
    ],
    ids=["cut", "missing", "folder", "pipe", "dangling link", "device"],
)
def test_lost_curves_are_reported(tmp_path, damage):
    with Checkpoints(tmp_path) as first:
        first.log("loss", 0.5, 1)
        write(first, 1)
    (log,) = (tmp_path / "logs").iterdir()
    damage(log)
    with Checkpoints(tmp_path) as second:
        tensors, progress, notes = second.read()
        assert progress["update"] == 1 and "the curves will have a gap" in notes[0]
        second.log("loss", 0.5, 2)
        write(second, 2)
    assert steps(tmp_path) == [2] and read(tmp_path) == (2, [])


@pytest.mark.parametrize(
    "name",
    [
        "update_0000009 (1).safetensors",
        "update_0000009.sync-conflict-20240101-120000-ABCDEFG.safetensors",
        "update_best.safetensors",
        ".update_0000009.safetensors.icloud",
    ],
)
def test_a_copy_that_a_tool_made_is_no_checkpoint_and_stays(tmp_path, caplog, name):
    store = Store(str(tmp_path))
    with store.lock("mine") as folder, Checkpoints(folder) as checkpoints:
        write(checkpoints, 4)
        (folder / name).write_bytes(b"copied")
    with store.lock("mine") as folder, Checkpoints(folder) as checkpoints:
        assert checkpoints.newest() == 4 and read(folder) == (4, [])
        write(checkpoints, 5, 6)
        checkpoints.clear()
        assert checkpoints.newest() is None
    assert [path.name for path in folder.iterdir()] == [name]
    assert f"they are neither read nor removed: {name}" in caplog.text
    with pytest.raises(InputError, match="no revision mine in"):  # and none is being trained
        store.local("mine")
    with store.lock("mine"):
        assert (folder / name).read_bytes() == b"copied"


@pytest.mark.parametrize(
    "damage",
    [
        replace_by(lambda path: os.mkfifo(path)),
        replace_by(lambda path: path.symlink_to(path.name)),
        replace_by(lambda path: path.mkdir()),
    ],
    ids=["pipe", "link in a circle", "folder"],
)
def test_a_checkpoint_that_is_no_file_is_skipped(tmp_path, damage):
    checkpoints = Checkpoints(tmp_path)
    write(checkpoints, 4, 9)
    newest = checkpoints.paths()[0]
    damage(newest)
    update, notes = read(tmp_path)
    assert update == 4 and f"{newest}: is damaged and skipped" in notes[0]
