"""A store never holds half a revision, and reports what it holds."""

import json
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import pytest

from nerc import NERSmall, files, hub
from nerc.config import DataConfig
from nerc.errors import InputError, is_disk_full
from nerc.store import records, revisions
from nerc.store.revisions import Store


@pytest.mark.parametrize(
    "flags, name",
    [
        ({"data": "llm"}, "main"),
        ({"data": "gold"}, "model_primary"),
        ({"data": "gold", "expert": "240"}, "model_primary_240_sentences"),
        ({"data": "mixed"}, "model_mixed_12"),
        ({"data": "mixed", "expert": "1.71%"}, "model_mixed_1.71"),
        ({"data": "mixed", "expert": "240"}, "model_mixed_240_sentences"),
    ],
)
def test_default_names(flags, name):
    assert revisions.default_name(DataConfig(**flags)) == name


def write(store: Store, name: str, content: str, *, overwrite: bool = False) -> None:
    with store.new_revision(name, overwrite=overwrite) as folder:
        (folder / "config.json").write_text(content)


def test_a_revision_appears_whole(tmp_path):
    store = Store(str(tmp_path / "a" / "models"))
    with store.new_revision("main", overwrite=False) as folder:
        (folder / "config.json").write_text("{}")
        assert store.names() == []
    assert store.names() == ["main"] and (store.folder / "main").stat().st_mode & 0o444
    assert [entry.name for entry in store.folder.iterdir()] == ["main"]


def test_a_revision_given_as_the_store_is_told_so(tmp_path):
    write(Store(str(tmp_path)), "main", "{}")
    with pytest.raises(InputError, match=f"is a revision itself; give --repo {tmp_path} .*main"):
        Store(str(tmp_path / "main")).path("main")


def test_a_failed_run_leaves_nothing(tmp_path):
    store = Store(str(tmp_path / "models"))
    with pytest.raises(InputError), store.new_revision("main", overwrite=False) as folder:
        (folder / "config.json").write_text("{}")
        raise InputError("no")
    assert not store.folder.exists()


def test_the_old_revision_stays_until_the_new_one_is_complete(tmp_path):
    store = Store(str(tmp_path))
    write(store, "main", "old")
    with pytest.raises(InputError), store.new_revision("main", overwrite=True) as folder:
        (folder / "config.json").write_text("half")
        raise InputError("no")
    assert (store.path("main") / "config.json").read_text() == "old"
    write(store, "main", "new", overwrite=True)
    assert (store.path("main") / "config.json").read_text() == "new"
    assert [entry.name for entry in tmp_path.iterdir()] == ["main"]


def test_a_revision_that_appeared_meanwhile_is_not_overwritten(tmp_path):
    store = Store(str(tmp_path))
    with pytest.raises(InputError, match="is in .* already.* saved as .*main_2"):
        with store.new_revision("main", overwrite=False) as folder:
            (folder / "config.json").write_text("late")
            (tmp_path / "main").mkdir()  # copied there, say
            (tmp_path / "main/config.json").write_text("first")
    assert (store.path("main") / "config.json").read_text() == "first"
    assert (store.path("main_2") / "config.json").read_text() == "late"


def test_two_runs_do_not_write_one_revision(tmp_path):
    store = Store(str(tmp_path))
    with store.new_revision("main", overwrite=False) as folder:
        (folder / "config.json").write_text("first")
        with pytest.raises(InputError, match="another run is writing revision main"):
            write(Store(str(tmp_path)), "main", "second")
        write(store, "other", "{}")
    assert (store.path("main") / "config.json").read_text() == "first"
    assert store.names() == ["main", "other"] and len(list(tmp_path.iterdir())) == 2


def test_a_kill_between_the_old_revision_and_the_new_one_loses_neither(tmp_path):
    store = Store(str(tmp_path))
    write(store, "main", "old")
    folder = store.run_folder("main")
    folder.mkdir(parents=True)
    (tmp_path / "main").rename(folder / "revision.old")  # where the kill came
    with store.lock("main"):
        assert (store.path("main") / "config.json").read_text() == "old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["main"]


def test_a_run_folder_stays_while_it_holds_a_checkpoint(tmp_path):
    store = Store(str(tmp_path / "models"))
    with store.lock("main") as folder:
        (folder / "update_0000001.safetensors").write_text("")
    assert (folder / "update_0000001.safetensors").exists()
    with store.lock("main") as folder:
        (folder / "update_0000001.safetensors").unlink()
    assert not (tmp_path / "models/.checkpoints").exists()


def test_overwrite_replaces_revisions_only(tmp_path):
    store = Store(str(tmp_path))
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "thesis.tex").write_text("years")
    (tmp_path / "file").write_text("")
    (tmp_path / "link").symlink_to("nowhere")
    for name in ("notes", "file", "link"):
        with pytest.raises(InputError, match="is not a revision"):
            store.check_free(name, overwrite=True)
        with pytest.raises(InputError, match="already"):
            store.check_free(name, overwrite=False)


def test_runs_that_begin_and_end_together_do_not_hinder_each_other(tmp_path):
    """Each makes the store, its own folder and the one around it, and removes what is empty."""

    class Failed(Exception):
        pass

    def write_often(name: str) -> None:
        for _ in range(500):
            store = Store(str(tmp_path / "new/models"))
            store.check_room(1)
            assert store.names() == []
            with suppress(Failed), store.lock(name) as folder:
                (folder / "run.json").write_text("{}")
                raise Failed

    with ThreadPoolExecutor(3) as runs:
        assert list(runs.map(write_often, ("a", "b", "c"))) == [None] * 3
    assert not (tmp_path / "new/models/.checkpoints").exists()


def test_a_place_where_no_folder_can_be_made_is_reported(tmp_path):
    (tmp_path / "link").symlink_to("nowhere")
    (tmp_path / "file").write_text("")
    for place in ("link", "file/models"):
        store = Store(str(tmp_path / place))
        store.check_room(1)
        assert store.names() == []
        with pytest.raises(InputError, match="no revision main in"):
            store.path("main")
        with pytest.raises(InputError, match="cannot be written"), store.lock("main"):
            pass


def test_a_revision_without_its_configuration_is_named(tmp_path):
    (tmp_path / "main").mkdir()
    (tmp_path / "main" / "run.json").write_text("{}")
    store = Store(str(tmp_path))
    assert store.names() == ["main"]
    with pytest.raises(InputError, match=r"main/config\.json: no such file; fetch or train"):
        store.path("main")


def test_a_folder_that_the_user_made_stays(tmp_path):
    store = Store(str(tmp_path))
    with pytest.raises(InputError), store.new_revision("main", overwrite=False):
        raise InputError("no")
    assert tmp_path.is_dir() and list(tmp_path.iterdir()) == []


def test_files_of_a_revision_are_as_readable_as_others(tmp_path):
    store = Store(str(tmp_path))
    with store.new_revision("main", overwrite=False) as folder:
        (folder / "config.json").write_text("{}")
        (folder / "config.json").chmod(0o600)
    (tmp_path / "other").write_text("")
    modes = [p.stat().st_mode for p in (tmp_path / "main/config.json", tmp_path / "other")]
    assert modes[0] == modes[1]


@pytest.mark.parametrize(
    "name, flags",
    [
        ("main", "--data llm --repo"),
        ("model_mixed_240_sentences", "--data mixed --expert 240 --repo"),
        ("model_mixed_1.71", "--data mixed --expert 1.71% --repo"),
        ("mine", "--revision mine --repo"),
    ],
)
def test_the_hint_makes_the_missing_revision(tmp_path, name, flags):
    with pytest.raises(InputError) as error:
        Store(str(tmp_path)).path(name)
    assert f"train.py {flags} {tmp_path}" in str(error.value)


def run_json(corpus: str = "sample:200", **config: str) -> str:
    values = {"data": "gold", "corpus": corpus, "encoder": "tiny", "recipe": "strong", "seed": 0}
    return json.dumps({"config": values | config, "data": {}})


def test_the_hint_has_the_corpus_of_the_other_revisions(tmp_path):
    for name in ("model_primary", "other"):
        write(Store(str(tmp_path)), name, "{}")
        (tmp_path / name / "run.json").write_text(run_json())
    with pytest.raises(InputError, match="train.py --data llm --corpus sample:200 --repo"):
        Store(str(tmp_path)).path("main")
    (tmp_path / "other/run.json").write_text(run_json(corpus="conll2003"))
    with pytest.raises(InputError, match="train.py --data llm --repo"):
        Store(str(tmp_path)).path("main")


def test_a_revision_that_is_being_trained_is_reported_as_such(tmp_path):
    store = Store(str(tmp_path))
    with store.lock("main") as folder:
        with pytest.raises(InputError, match="is still being trained, or was interrupted"):
            store.path("main")
        (folder / "run.json").write_text(run_json(data="llm", seed=3, corpus="a b"))
        with pytest.raises(InputError) as error:
            store.path("main")
    assert f"its checkpoints are in {folder}; wait, or continue it with" in str(error.value)
    command = f"--data llm --corpus 'a b' --seed 3 --revision main --encoder tiny --repo {tmp_path}"
    assert str(error.value).endswith(f"{command} --resume")
    with pytest.raises(InputError, match="no revision main in"):
        store.path("main")


HUB_NAME = "user/name"  # no server stands behind it: asking would be an error of another kind


def test_a_folder_that_exists_is_the_whole_store(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(hub.Repository, "fetch", lambda *_: pytest.fail("asked the Hub"))
    (tmp_path / HUB_NAME).mkdir(parents=True)
    write(Store(HUB_NAME), "mine", "{}")
    with pytest.raises(InputError) as error:
        Store(HUB_NAME).path("nime")
    assert "no revision nime in user/name (there: mine)" in str(error.value)
    assert "nerc revisions pull --repo user/name --revision nime" in str(error.value)
    assert Store(HUB_NAME).path("mine").samefile(tmp_path / HUB_NAME / "mine")
    with pytest.raises(InputError, match="holds no config.json; revisions in user/name: mine"):
        NERSmall.from_pretrained(HUB_NAME, revision="nime")


@pytest.mark.parametrize(
    "repo",
    [
        *("models", "models/mine", "/models/mine", "./models", "./user/name", "../user/name"),
        *("~/name", "a/b/c", "user/name/", "user/", "/name", ".hidden/name", "..", "user/.."),
    ],
)
def test_what_looks_like_a_path_never_reaches_the_hub(tmp_path, monkeypatch, repo):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(hub.Repository, "__init__", lambda *_: pytest.fail("asked the Hub"))
    with pytest.raises(InputError, match="no revision main in"):
        Store(repo).path("main")
    with pytest.raises(InputError, match="no such folder|holds no config.json"):
        NERSmall.from_pretrained(repo, revision="main")


@pytest.mark.parametrize("content", [b"", b"[]", b"{}", b'{"config": 1, "data": {}}', b"\xff"])
def test_a_damaged_record_is_reported(tmp_path, content):
    (tmp_path / "run.json").write_bytes(content)
    with pytest.raises(InputError, match="is damaged"):
        records.read_run(tmp_path)


def test_files_are_written_through_links_and_only_into_folders(tmp_path):
    (tmp_path / "link.json").symlink_to(tmp_path / "real.json")
    files.write_json(tmp_path / "link.json", 1)
    assert (tmp_path / "link.json").is_symlink() and (tmp_path / "real.json").exists()
    for path in (tmp_path, tmp_path / "no" / "x.json", tmp_path / ("x" * 240)):
        with pytest.raises(InputError, match="--json"):
            files.check_file(path, "--json")
    files.check_file(tmp_path / "new.json", "--json")
    with pytest.raises(ValueError):
        files.write_json(tmp_path / "nan.json", float("nan"))
    assert not (tmp_path / "nan.json").exists()


@pytest.mark.parametrize(
    "name", ["../up", "a/b", ".hidden", "-flag", "", "a b", "a..b", "x.lock", "x."]
)
def test_names_that_no_folder_or_branch_can_have_are_refused(tmp_path, name):
    with pytest.raises(InputError, match="cannot be the name of a revision"):
        Store(str(tmp_path)).check_free(name, overwrite=True)


def test_a_missing_revision_is_reported_with_those_that_exist(tmp_path):
    store = Store(str(tmp_path))
    write(store, "model_primary", "{}")
    with pytest.raises(InputError) as error:
        store.path("main")
    assert "no revision main in" in str(error.value)
    assert "(there: model_primary)" in str(error.value)
    assert "train.py --data llm" in str(error.value)


def test_a_disk_with_too_little_room_is_seen_before_training(tmp_path):
    store = Store(str(tmp_path / "not" / "yet"))
    store.check_room(1)
    with pytest.raises(InputError, match="no room on the disk"):
        store.check_room(2**60)
    assert not (tmp_path / "not").exists()


def test_a_store_that_is_a_file_is_refused(tmp_path):
    (tmp_path / "models").write_text("")
    with pytest.raises(InputError, match="is a file"):
        Store(str(tmp_path / "models"))
    for name in ("a\0b", "x" * 300):
        with pytest.raises(InputError, match="cannot be read"):
            Store(str(tmp_path / name))


def test_json_is_written_whole_or_not_at_all(tmp_path):
    files.write_json(tmp_path / "x.json", {"ü": 1})
    assert json.loads((tmp_path / "x.json").read_text(encoding="utf-8")) == {"ü": 1}
    with pytest.raises(TypeError):
        files.write_json(tmp_path / "x.json", {"a": object()})
    assert [entry.name for entry in tmp_path.iterdir()] == ["x.json"]


def test_a_disk_that_fills_up_while_files_are_copied_is_reported(small_disk, tmp_path):
    (tmp_path / "of/a").mkdir(parents=True)
    (tmp_path / "of/a/model").write_bytes(bytes(9 * 2**20))
    with pytest.raises(OSError) as error:
        files.copy_files(tmp_path / "of", small_disk / "copy")
    assert is_disk_full(error.value)
