"""Revisions on a Hub: the real client, against a small server on loopback."""

import json
import os
import re
import shutil
import socket
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import hub_server
import pytest
from conftest import same_files, small

ROOT = Path(__file__).parents[1]


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """An empty Hub, which the commands that run() starts use with a cache of their own."""
    found, server = hub_server.serve()
    for name in ("HF_HUB_OFFLINE", "HF_HUB_ENABLE_HF_TRANSFER"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HF_ENDPOINT", found.url)
    monkeypatch.setenv("HF_TOKEN", hub_server.TOKEN)
    monkeypatch.setenv("HF_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("HF_HUB_DISABLE_XET", "1")
    yield found
    server.shutdown()
    server.server_close()


def run(cwd: Path, *command, code: int = 0, **env: str) -> str:
    """What a command, on nerc's modules or scripts, printed; for code 2, its one line of error."""
    if command[0].endswith(".py"):
        command = (ROOT / command[0], *command[1:])
    done = subprocess.run(
        [sys.executable, *map(str, command)],
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": str(ROOT), **env},
        capture_output=True,
        text=True,
    )
    assert done.returncode == code, done.stdout + done.stderr
    assert hub_server.TOKEN not in done.stdout + done.stderr
    if code == 2:
        assert done.stderr.count("\n") == 1 and ": error: " in done.stderr, done.stderr
        return done.stderr
    return done.stdout


def revisions(cwd: Path, *flags, code: int = 0, **env: str) -> str:
    return run(cwd, "-m", "nerc", "revisions", *flags, code=code, **env)


def write(folder: Path, **files: str) -> dict[str, bytes]:
    """A folder that passes for a revision; what is in it."""
    content = {"config.json": "{}", "model.safetensors": "large", "logs/events": "\0", **files}
    for name, text in content.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return {name: text.encode() for name, text in content.items()}


def held(hub, branch: str, repo: str = "tester/ner") -> dict[str, bytes]:
    """What a branch holds, but for what is the Hub's own."""
    content = hub.repos[repo].content(branch)
    content.pop(".gitattributes")
    return content


def sent(folder: Path, *places: Path) -> dict[str, bytes]:
    """The files of a folder as the Hub is to hold them; places: the paths that they name."""
    found = {}
    for path in folder.rglob("*"):
        if path.is_file():
            name = str(path.relative_to(folder)).replace(f".{socket.gethostname()}.", ".host.")
            found[name] = path.read_bytes()
            for place in places:
                found[name] = found[name].replace(
                    str(place).encode(), b".../%b" % place.name.encode()
                )
    return found


PUSH = ("push", "--hub", "tester/ner")


def test_train_push_list_pull_load_and_evaluate(hub, folder, encoder, tmp_path):
    here, there = tmp_path / "here", tmp_path / "there"
    here.mkdir(), there.mkdir()
    flags = [*small(folder, encoder), "--repo", "tester/ner", "--revision", "mine", "--push"]
    said = run(here, "train.py", *flags)
    assert "created the private repository tester/ner" in said
    mine = here / "tester/ner/mine"
    assert held(hub, "mine") == sent(mine, folder, encoder)
    assert hub.repos["tester/ner"].private

    metrics = json.loads((mine / "metrics.json").read_text())
    row = next(
        r for r in revisions(there, "list", "--repo", "tester/ner").split("\n") if "mine" in r
    )
    assert f"{metrics['validation']['f1']:.5f}" in row and f"{metrics['test']['loss']:.5f}" in row
    assert row in revisions(here, "list", "--repo", "tester/ner")  # from the folder

    revisions(there, "pull", "--hub", "tester/ner", "--revision", "mine")
    assert sent(there / "models/mine") == held(hub, "mine")
    for place in (here, there):  # whose record names other folders, or none
        repo = ("--repo", "tester/ner" if place == here else "models", "--revision", "mine")
        said = revisions(place, "pull", "--hub", "tester/ner", *repo)
        assert f"mine: is in {repo[1]} already" in said
        assert "holds it already" in revisions(place, *PUSH, *repo)
    code = f"""
import transformers
from nerc import NERSmall
one = NERSmall.from_pretrained("tester/ner", revision="mine")
two = NERSmall.from_pretrained({str(here / "tester/ner")!r}, revision="mine")
auto = transformers.AutoModelForTokenClassification.from_pretrained("tester/ner", revision="mine")
for other in (two, auto):
    assert type(other) is NERSmall
    assert all(a.equal(b) for a, b in zip(one.parameters(), other.parameters(), strict=True))
tokenizer = transformers.AutoTokenizer.from_pretrained("tester/ner", revision="mine")
assert tokenizer.get_vocab() == one.tokenizer.get_vocab() == two.tokenizer.get_vocab()
bert = transformers.BertTokenizer.from_pretrained("tester/ner", revision="mine")
assert bert("Zoe said")["input_ids"] == tokenizer("Zoe said")["input_ids"] != []
config = transformers.AutoConfig.from_pretrained("tester/ner", revision="mine")
assert config.inventory == one.config.inventory
text = "Zoe said in Paris"
assert one.predict(text) == two.predict(text)
import os
os.chdir("/")
assert NERSmall.from_pretrained({str(here / "tester/ner")!r}, revision="mine").predict(text) == (
    two.predict(text))
"""
    run(there, "-c", code)
    flags = ("--repo", "tester/ner", "--revision", "mine", "--split", "test", "--json", "r.json")
    said = run(there, "evaluate.py", *flags, code=2)
    assert f"mine was trained on .../{folder.name}" in said and "give --corpus" in said
    assert "of tester/ner on the Hub" in run(there, "evaluate.py", *flags, "--corpus", folder)
    report = json.loads((there / "r.json").read_text())["mine"]["test"]
    assert report.pop("types") == metrics["test"].pop("types")
    assert report == pytest.approx(metrics["test"])


def test_a_run_from_the_hub_makes_a_folder_that_is_complete(hub, store, folder, tmp_path):
    """It starts from a branch, and then its folder is all that is read."""
    shutil.copytree(store / "model_primary", tmp_path / "models/mine")
    revisions(tmp_path, *PUSH)
    shutil.rmtree(tmp_path / "models")
    flags = ["--corpus", folder, "--start", "mine", "--revision", "tuned", "--epochs", "1"]
    flags += ["--num-threads", "1", "--repo", "tester/ner"]
    said = run(tmp_path, "train.py", *flags, "--push")
    assert "mine: copied to tester/ner" in said and "tuned of tester/ner holds it" in said
    assert sent(tmp_path / "tester/ner/mine") == held(hub, "mine")
    assert set(os.listdir(tmp_path / "tester/ner")) == {"mine", "tuned"}

    asked = len(hub.log)
    assert "nothing is left to do" in run(tmp_path, "train.py", *flags, "--resume")
    evaluated = ("evaluate.py", "--repo", "tester/ner", "--revision", "mine")
    evaluated += ("tuned", "--num-threads", "1", "--corpus", folder)
    assert "| tuned " in run(tmp_path, *evaluated)
    assert len(hub.log) == asked


def test_the_tokenizer_comes_from_the_folder_of_the_weights(hub, store, tmp_path):
    shutil.copytree(store / "model_primary", tmp_path / "models/mine")
    revisions(tmp_path, *PUSH)
    code = """
import os, subprocess, sys
from nerc import NERSmall
model = NERSmall.from_pretrained("tester/ner", revision="mine")
one = model.folder
os.remove("models/mine/tokenizer.json")
push = [sys.executable, "-m", "nerc", "revisions", "push", "--hub", "tester/ner", "--overwrite"]
subprocess.run(push, check=True)
assert NERSmall.from_pretrained("tester/ner", revision="mine").folder != one
assert model.tokenizer.name_or_path == str(one) and len(model.tokenizer) > 100
"""
    assert "tokenizer.json" in held(hub, "mine")
    run(tmp_path, "-c", code)
    assert "tokenizer.json" not in held(hub, "mine")  # so the Hub's newest state had none to give


@pytest.mark.slow
def test_a_push_that_failed_is_completed_by_resuming(hub, folder, encoder, tmp_path):
    flags = [*small(folder, encoder), "--repo", "tester/ner", "--push"]
    hub.faults.append(["POST .*/commit/", 403, 1])
    said = run(tmp_path, "train.py", *flags, code=2)
    assert "answered 403" in said and "the revision is in tester/ner/model_primary" in said
    again = re.search(r"python -m (nerc revisions push .*)$", said)[1]
    assert held(hub, "model_primary") == {}
    run(tmp_path, "train.py", *flags, "--resume")
    mine = tmp_path / "tester/ner/model_primary"
    assert held(hub, "model_primary") == sent(mine, folder, encoder)
    assert "holds it already" in run(tmp_path, "-m", *again.split())


@pytest.mark.slow
def test_a_published_checkpoint_is_pushed_and_evaluated_from_the_hub(
    hub, folder, encoder, tmp_path
):
    import transformers

    config = transformers.BertConfig.from_pretrained(encoder, num_labels=12)
    model = transformers.BertForTokenClassification(config)
    model.save_pretrained(tmp_path / "models/main")
    revisions(tmp_path, *PUSH)
    assert set(held(hub, "main")) == {"config.json", "model.safetensors"}
    flags = ("--revision", "main", "--corpus", folder, "--tokenizer", encoder)
    here = run(tmp_path, "evaluate.py", *flags)
    there = run(tmp_path, "evaluate.py", "--repo", "tester/ner", *flags)
    assert here.splitlines()[-4:] == there.splitlines()[-4:] and "| main " in here
    row = revisions(tmp_path, "list", "--hub", "tester/ner").splitlines()[-1]
    assert re.sub(r"[| ]", "", row) == "main" + "-" * 9


def test_branches_do_not_touch_each_other(hub, tmp_path):
    main = write(tmp_path / "models/main", extra="only of main")
    other = write(tmp_path / "models/active_iter_1_added_20", model="other")
    revisions(tmp_path, *PUSH, "--revision", "main")
    assert held(hub, "main") == main
    revisions(tmp_path, *PUSH, "--revision", "active_iter_1_added_20")
    assert held(hub, "active_iter_1_added_20") == other
    assert held(hub, "main") == main
    revisions(tmp_path, "pull", "--hub", "tester/ner", "--repo", "copy")
    assert same_files(tmp_path / "copy", tmp_path / "models")


def test_a_whole_store_is_pushed_and_pulled_twice(hub, tmp_path):
    for name in ("a", "b"):
        write(tmp_path / "models" / name, name=name)
    said = revisions(tmp_path, *PUSH, "--public")
    assert said.count("holds it: ") == 2 and not hub.repos["tester/ner"].private
    before = dict(hub.repos["tester/ner"].branches)
    assert revisions(tmp_path, *PUSH).count("holds it already") == 2
    assert hub.repos["tester/ner"].branches == before
    pull = ("pull", "--hub", "tester/ner", "--repo", "copy")
    assert "main: this branch is not a whole revision" in revisions(tmp_path, *pull)
    assert same_files(tmp_path / "copy", tmp_path / "models")
    assert revisions(tmp_path, *pull).count("already") == 2


def test_files_of_a_repositorys_first_commit_stay_out_of_new_branches(hub, tmp_path):
    hub.repos["tester/ner"] = repo = hub_server.Repo(private=False)
    first = repo.commit("main", {"README.md": hub_server.File(b"made on the page")}, "initial")
    mine = write(tmp_path / "models/mine")
    hub.faults.append(["POST .*/commit/", 403, 1])
    revisions(tmp_path, *PUSH, code=2)
    assert repo.branches["mine"] == first  # and the next push knows that it is nobody's
    revisions(tmp_path, *PUSH)
    assert repo.content("mine") == mine
    write(tmp_path / "models/main")
    said = revisions(tmp_path, *PUSH, "--revision", "main", code=2)
    assert "holds something else" in said
    assert repo.content("main") == {"README.md": b"made on the page"}


def test_branches_and_revisions_are_replaced_with_overwrite_only(hub, tmp_path):
    old = write(tmp_path / "models/main", surplus="1")
    revisions(tmp_path, *PUSH)
    (tmp_path / "models/main/surplus").unlink()
    new = write(tmp_path / "models/main", model="new")
    said = revisions(tmp_path, *PUSH, code=2)
    assert "holds something else already; give --overwrite" in said
    assert held(hub, "main") == old
    write(tmp_path / "copy/main", mine="1")
    pull = ("pull", "--hub", "tester/ner", "--repo", "copy")
    assert "give --overwrite" in revisions(tmp_path, *pull, code=2)
    revisions(tmp_path, *PUSH, "--overwrite")
    assert held(hub, "main") == new
    revisions(tmp_path, *pull, "--overwrite")
    assert same_files(tmp_path / "copy", tmp_path / "models")


FAULTS = [
    ("POST .*/commit/", 401, "answered 401 .*log in"),
    ("POST .*/commit/", 403, "answered 403 .*may not write"),
    ("POST .*/commit/", 404, "answered 404"),
    ("POST .*/commit/", 409, "answered 409 .*somebody else"),
    ("POST .*/commit/", 429, "answered 429 .*too many"),
    ("POST .*/commit/", 500, "answered 500 .*the fault is the Hub's"),
    ("POST .*/commit/", "drop", "cannot be reached"),
    ("POST .*/branch/", 500, "answered 500"),
    ("POST .*/repos/create", 403, "answered 403"),
    ("GET .*/refs", "drop", "cannot be reached"),
]


def test_a_failed_push_is_one_line_and_the_next_one_completes(hub, tmp_path):
    """Each fault on a Hub of its own, several at a time: most of it is waiting."""

    def meet(case: tuple) -> None:
        request, fault, wanted = case
        place = tmp_path / str(FAULTS.index(case))
        own, server = hub_server.serve()
        env = {"HF_ENDPOINT": own.url, "HF_HOME": str(place / "cache")}
        revision = write(place / "models/mine")
        own.faults.append([request, fault, 99])
        said = revisions(place, *PUSH, code=2, **env)
        assert re.search(wanted, said), said
        branches = own.repos["tester/ner"].branches if "tester/ner" in own.repos else {}
        assert not any(held(own, branch) for branch in branches), case
        assert {n: (place / "models/mine" / n).read_bytes() for n in revision} == revision
        own.faults.clear()
        revisions(place, *PUSH, **env)
        assert held(own, "mine") == revision, case
        server.shutdown()
        server.server_close()

    with ThreadPoolExecutor(5) as several:
        assert len(list(several.map(meet, FAULTS))) == len(FAULTS)


@pytest.mark.parametrize("request_", ["PUT .*/_lfs/", "POST .*/commit/", "POST .*/preupload/"])
def test_a_push_survives_a_connection_that_breaks(hub, tmp_path, request_):
    revision = write(tmp_path / "models/mine")
    hub.faults.append([request_, "drop", 1])
    revisions(tmp_path, *PUSH)
    assert held(hub, "mine") == revision and hub.faults[0][2] == 0


def test_a_lost_answer_makes_no_second_commit(hub, tmp_path):
    write(tmp_path / "models/mine")
    revisions(tmp_path, *PUSH)
    write(tmp_path / "models/mine", more="1")
    commits = len(hub.repos["tester/ner"].commits)
    answer = hub_server.Handler.answer
    lost = []

    def lose(self, code, body=b"", **headers):
        if "/commit/" in self.path and not lost:
            lost.append(self.path)
            self.close_connection = True
            return self.connection.close()
        return answer(self, code, body, **headers)

    hub_server.Handler.answer = lose
    try:
        assert "holds it already" in revisions(tmp_path, *PUSH, "--overwrite")
    finally:
        hub_server.Handler.answer = answer
    assert lost and len(hub.repos["tester/ner"].commits) == commits + 1


def test_another_push_meanwhile_is_not_overwritten(hub, tmp_path):
    write(tmp_path / "models/mine")
    theirs = {n: hub_server.File(b"theirs") for n in (".gitattributes", "config.json")}

    def first() -> None:
        if "config.json" not in hub.repos["tester/ner"].content("mine"):
            hub.repos["tester/ner"].commit("mine", theirs, "theirs")

    hub.before_commit = first
    assert "answered 412" in revisions(tmp_path, *PUSH, code=2)
    assert held(hub, "mine") == {"config.json": b"theirs"}
    assert "give --overwrite" in revisions(tmp_path, *PUSH, code=2)


def test_wrong_names_and_tokens_are_one_line(hub, tmp_path):
    write(tmp_path / "models/mine")
    revisions(tmp_path, *PUSH)
    pull = ("pull", "--hub", "tester/ner", "--revision")
    said = revisions(tmp_path, *pull, "none", code=2)
    assert "no revision none in tester/ner on the Hub (there: main, mine)" in said
    assert "answered 404" in revisions(tmp_path, "pull", "--hub", "tester/none", code=2)
    assert "is not a repository's name" in revisions(tmp_path, "pull", "--hub", "a/b/c", code=2)
    assert "is not a repository's name" in revisions(tmp_path, "push", code=2)  # models is a folder
    assert "answered 403" in revisions(tmp_path, "push", "--hub", "else/ner", code=2)
    assert "no revision none in models" in revisions(tmp_path, *PUSH, "--revision", "none", code=2)
    said = run(tmp_path, "evaluate.py", "--repo", "tester/ner", "--revision", "none", code=2)
    assert "there is no folder tester/ner" in said and "there: main, mine" in said
    write(tmp_path / "models/other")
    assert "answered 401" in revisions(tmp_path, *PUSH, code=2, HF_TOKEN="hf_wrong")
    assert not (tmp_path / "tester").exists()


def test_train_refuses_at_the_start_what_it_could_not_push(hub, tmp_path):
    train = ("train.py", "--corpus", "sample:100", "--push", "--repo")
    assert "wanted the name USER/NAME" in run(tmp_path, *train, "models", code=2)
    assert "answered 401" in run(tmp_path, *train, "tester/ner", code=2, HF_TOKEN="hf_wrong")
    assert "no token here; log in" in run(tmp_path, *train, "tester/ner", code=2, HF_TOKEN="")
    write(tmp_path / "models/model_primary")
    revisions(tmp_path, *PUSH)
    for again in ((), ("--resume",)):  # as in every job
        assert "holds something else" in run(tmp_path, *train, "tester/ner", *again, code=2)
    assert not (tmp_path / "tester").exists()


def test_offline_only_the_cache_is_asked(hub, tmp_path):
    write(tmp_path / "models/mine")
    revisions(tmp_path, *PUSH)
    pull = ("pull", "--hub", "tester/ner", "--revision", "mine", "--repo")
    asked = len(hub.log)
    said = revisions(tmp_path, *pull, "copy", code=2, HF_HUB_OFFLINE="1")
    assert "HF_HUB_OFFLINE is set, and the cache does not have revision mine" in said
    assert len(hub.log) == asked
    revisions(tmp_path, *pull, "online")
    asked = len(hub.log)
    assert "from the cache" in revisions(tmp_path, *pull, "copy", HF_HUB_OFFLINE="1")
    assert same_files(tmp_path / "copy/mine", tmp_path / "models/mine")
    assert "HF_HUB_OFFLINE" in revisions(tmp_path, *PUSH, code=2, HF_HUB_OFFLINE="1")
    assert len(hub.log) == asked


def test_pickles_programs_and_hidden_files_are_not_fetched(hub, tmp_path):
    write(tmp_path / "models/mine")
    revisions(tmp_path, *PUSH)
    theirs = [
        "pytorch_model.bin",
        "evil.PY",
        "lib/evil.so",
        "lib/evil.so.1",
        ".envrc",
        ".git/hooks",
    ]
    repo = hub.repos["tester/ner"]
    files = repo.commits[repo.branches["mine"]].files
    repo.commit("mine", files | dict.fromkeys(theirs, hub_server.File(b"os.system")), "theirs")
    pull = ("pull", "--hub", "tester/ner", "--revision", "mine", "--repo", "copy")
    said = revisions(tmp_path, *pull)
    assert f"are not fetched: {', '.join(sorted(theirs))}\n" in said
    assert same_files(tmp_path / "copy", tmp_path / "models")
    assert not any(name in request for request in hub.log for name in theirs)

    shutil.rmtree(tmp_path / "copy")  # even where another program has put them into the cache
    run(
        tmp_path,
        "-c",
        "from huggingface_hub import *; snapshot_download('tester/ner', revision='mine')",
    )
    assert list((tmp_path / "cache").rglob("evil.PY"))
    revisions(tmp_path, *pull, HF_HUB_OFFLINE="1")
    assert same_files(tmp_path / "copy", tmp_path / "models")


def test_what_cannot_be_sent_does_not_stop_the_others(hub, tmp_path):
    good = write(tmp_path / "models/good")
    write(tmp_path / "models/odd name")
    write(tmp_path / "models/hidden", **{".envrc": "export TOKEN="})
    said = revisions(tmp_path, *PUSH, code=2)
    assert "move away .envrc" in said and "'odd name' cannot be the name" in said
    assert held(hub, "good") == good and "hidden" not in hub.repos["tester/ner"].branches


def test_runs_that_begin_together_copy_what_they_read_once(hub, tmp_path):
    write(tmp_path / "models/mine", **{"model.safetensors": "large" * 2**20})
    revisions(tmp_path, *PUSH)
    code = """
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from nerc.store.revisions import Store
stores = [Store("tester/ner") for _ in range(8)]
for store in stores:
    store.path("mine")
begin = Barrier(8)
def keep(store):
    begin.wait()
    store.keep_fetched()
with ThreadPoolExecutor(8) as runs:
    list(runs.map(keep, stores))
"""
    run(tmp_path, "-c", code)
    assert sent(tmp_path / "tester/ner/mine") == held(hub, "mine")


def test_bytes_that_change_on_the_way_are_fetched_again_or_refused(hub, tmp_path):
    revision = write(tmp_path / "models/mine")
    other = {"model.safetensors": "other", "config.json": "{ }"}  # a cache holds what is equal once
    write(tmp_path / "models/other", **other)
    revisions(tmp_path, *PUSH)
    pull = ("pull", "--hub", "tester/ner", "--repo")
    for name in ("model.safetensors", "config.json"):  # by its SHA-256, and by its git hash
        for times in (1, 99):
            request = f"GET .*/resolve/{hub.repos['tester/ner'].branches['mine']}/{name}"
            hub.faults[:] = [[request, "change", times]]
            cache, copy = tmp_path / f"cache_{name}_{times}", f"copy_{name}_{times}"
            said = revisions(tmp_path, *pull, copy, code=2 * (times > 1), HF_HOME=str(cache))
            if times == 1:
                assert sent(tmp_path / copy / "mine") == revision and hub.faults[0][2] == 0
                continue
            assert f"mine of tester/ner: {name} in the cache" in said and "fetched twice" in said
            assert os.listdir(tmp_path / copy) == ["other"]
            listed = ("list", "--hub", "tester/ner")
            if name == "config.json":
                assert "is not what" in revisions(tmp_path, *listed, code=2, HF_HOME=str(cache))
            flags = ("--repo", "tester/ner", "--revision", "mine", "--corpus", "sample")
            said = run(tmp_path, "evaluate.py", *flags, code=2, HF_HOME=str(cache))
            assert "is not what the Hub's hash says" in said


def test_a_cache_that_was_damaged_is_mended_or_reported(hub, tmp_path):
    revision = write(tmp_path / "models/mine")
    revisions(tmp_path, *PUSH)
    pull = ("pull", "--hub", "tester/ner", "--revision", "mine", "--repo")
    revisions(tmp_path, *pull, "first")
    (weights,) = (tmp_path / "cache").rglob("snapshots/*/model.safetensors")
    for name in ("model.safetensors", "config.json"):
        weights.with_name(name).resolve().write_bytes(b"x" * len(revision[name]))
        said = revisions(tmp_path, *pull, "offline", code=2, HF_HUB_OFFLINE="1")
        assert f"{name} in the cache" in said and "the Hub was not asked" in said
        assert not (tmp_path / "offline").exists()
        revisions(tmp_path, *pull, f"online_{name}")
        assert sent(tmp_path / f"online_{name}/mine") == revision
    revisions(tmp_path, *pull, "offline", HF_HUB_OFFLINE="1")
    assert sent(tmp_path / "offline/mine") == revision


def test_a_cache_without_links_is_read(hub, tmp_path):
    """There, nothing tells the hashes without a network."""
    revision = write(tmp_path / "models/mine")
    revisions(tmp_path, *PUSH)
    pull = ("pull", "--hub", "tester/ner", "--revision", "mine", "--repo")
    revisions(tmp_path, *pull, "online", HF_HUB_DISABLE_SYMLINKS="1")
    assert not any(path.is_symlink() for path in (tmp_path / "cache").rglob("*"))
    revisions(tmp_path, *pull, "offline", HF_HUB_OFFLINE="1", HF_HUB_DISABLE_SYMLINKS="1")
    assert sent(tmp_path / "offline/mine") == sent(tmp_path / "online/mine") == revision


PAGE = b"<html><body>Welcome to our network. Please log in.</body></html>"


def test_a_branch_with_odd_answers_does_not_hide_the_others(hub, tmp_path):
    revision = write(tmp_path / "models/good")
    revisions(tmp_path, *PUSH)
    repo = hub.repos["tester/ner"]
    files = repo.commits[repo.branches["good"]].files
    odd = {
        "html": ("revision/html", PAGE),
        "list": ("revision/list", []),
        "no_commit": ("revision/no_commit", {"id": "tester/ner", "sha": None}),
        "tree_html": ("tree/{}", PAGE),
        "tree_object": ("tree/{}", {"type": "file"}),
        "tree_names": ("tree/{}", [{"type": "file", "path": 1, "oid": 2, "size": 3}]),
        "file_html": ("resolve/{}/config.json", PAGE),
    }
    for name, (request, answer) in odd.items():
        commit = repo.commit(name, files, f"of {name}")
        hub.faults.append([f"(GET|HEAD) .*/{request.format(commit)}", answer, 99])
    out = {".hidden/../../x", "logs/../x", "/x"}
    repo.commit("ways_out", files | dict.fromkeys(out, hub_server.File(b"x")), "ways out")
    for name in ("a/b", ".x", "x.lock", "a b", "x\x1b[2J"):
        repo.commit(name, files, "a name that no revision can have")
    repo.branches[1] = repo.branches["good"]  # a number in place of a name
    pull = (sys.executable, "-m", "nerc", "revisions", "pull", "--hub", "tester/ner")
    listed = (*pull[:4], "list", "--hub", "tester/ner")
    for command in (pull, listed):
        env = os.environ | {"PYTHONPATH": str(ROOT)}
        done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True)
        assert done.returncode == 2 and done.stderr.count("\n") == 1, done.stderr
        assert all(
            re.search(rf"[:;] {name}: [^;]* (something else|cannot)", done.stderr) for name in odd
        ), done.stderr
        assert "Traceback" not in done.stdout + done.stderr
        assert "good" in done.stdout and "ways_out" in done.stdout
    assert sorted(os.listdir(tmp_path / "models")) == ["good", "ways_out"]
    assert sent(tmp_path / "models/ways_out") == revision
    assert not [path for path in tmp_path.rglob("x") if path.is_file()]


@pytest.mark.parametrize("answer", [PAGE, [], {}, {"branches": [1]}, {"branches": 1}])
def test_odd_answers_about_a_repository_are_one_line(hub, tmp_path, answer):
    write(tmp_path / "models/mine")
    revisions(tmp_path, *PUSH)
    hub.faults.append([".*", answer, 999])
    commands = [("pull", "--hub", "tester/ner"), ("list", "--hub", "tester/ner"), PUSH]
    for command in commands:
        assert "something else than the Hub does" in revisions(tmp_path, *command, code=2)


def test_half_a_revision_is_neither_sent_nor_fetched(hub, tmp_path):
    write(tmp_path / "models/mine")
    revisions(tmp_path, *PUSH)
    (tmp_path / "models/mine/model.safetensors").unlink()
    assert "not a whole revision" in revisions(tmp_path, *PUSH, "--overwrite", code=2)
    code = """
from huggingface_hub import hf_hub_download
hf_hub_download("tester/ner", "config.json", revision="mine")
"""
    run(tmp_path, "-c", code)  # now the cache has a part of it
    pull = ("pull", "--hub", "tester/ner", "--repo", "copy", "--revision", "mine")
    assert "not a whole revision" in revisions(tmp_path, *pull, code=2, HF_HUB_OFFLINE="1")
    assert not (tmp_path / "copy").exists()


def test_a_refused_revision_does_not_stop_the_others(hub, tmp_path):
    for name in ("a", "b", "c"):
        write(tmp_path / "models" / name, name=name)
    revisions(tmp_path, *PUSH, "--revision", "b")
    write(tmp_path / "models/b", more="1")
    said = revisions(tmp_path, *PUSH, code=2)
    assert "b: branch b of tester/ner holds something else" in said
    assert held(hub, "a") and held(hub, "c")
    write(tmp_path / "copy/b", mine="1")
    said = revisions(tmp_path, "pull", "--hub", "tester/ner", "--repo", "copy", code=2)
    assert "b: revision b is in copy already" in said
    assert same_files(tmp_path / "copy/c", tmp_path / "models/c")


def test_a_damaged_record_does_not_hide_the_others(tmp_path):
    for name, metrics in (("bad", "["), ("good", "{}"), ("worse", '{"test": {"f1": "x"}}')):
        write(tmp_path / "models" / name, **{"metrics.json": metrics})
    done = subprocess.run(
        [sys.executable, "-m", "nerc", "revisions", "list"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2 and "| good " in done.stdout and "| bad " in done.stdout
    assert (
        done.stderr.count("\n") == 1 and "bad: models/bad/metrics.json: is damaged" in done.stderr
    )
