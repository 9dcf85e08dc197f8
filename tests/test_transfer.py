"""What is sent of a revision names neither a machine nor its folders; what is odd is refused."""

import json
import os
import re
import shlex
import shutil
import socket
from pathlib import Path

import pytest
from conftest import files, same_files

from nerc.errors import InputError
from nerc.store import records, transfer


def write(folder: Path, **texts: str) -> Path:
    """A folder that passes for a revision."""
    for name, text in {"config.json": "{}", "model.safetensors": "large", **texts}.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return folder


def send(folder: Path, target: Path) -> Path:
    """A folder with what is sent."""
    for name, content in transfer.files_to_send(folder).items():
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        (target / name).write_bytes(content if isinstance(content, bytes) else content.read_bytes())
    return target


def run_json(command: str, **config: str | None) -> str:
    return json.dumps({"command": command, "config": config, "data": {}}, indent=2)


def test_a_trained_revision_is_sent_without_places_and_hosts(store, folder, encoder, tmp_path):
    mine = tmp_path / "mine"
    shutil.copytree(store / "model_primary", mine)
    before = files(mine)
    there = send(mine, tmp_path / "sent")
    assert {name.replace(f".{socket.gethostname()}.", ".host.") for name in before} == files(there)
    private = {str(p) for place in (store, folder, encoder) for p in (place, *place.parents[:-1])}
    private |= {str(Path.home()), f"tfevents.{socket.gethostname()}"}
    for name in files(there):
        content = name.encode() + (there / name).read_bytes()
        assert not [text for text in private if text.encode() in content], name
    changed = {
        n for n in before & files(there) if (mine / n).read_bytes() != (there / n).read_bytes()
    }
    assert changed == {"run.json", "log.txt"}  # which name the corpus
    assert records.settings(records.read_run(there)) == records.settings(records.read_run(mine))
    runs = {place.name: records.read_run(place) | {"id": str(place)} for place in (mine, there)}
    assert records.by_configuration(runs) == [["mine", "sent"]]
    assert files(mine) == before  # and nothing here is touched


def test_what_was_sent_is_sent_again_as_it_is(store, tmp_path):
    once = send(store / "model_primary", tmp_path / "once")
    assert same_files(send(once, tmp_path / "twice"), once)
    assert transfer.is_same(once, store / "model_primary")
    (once / "log.txt").write_text("another")
    assert not transfer.is_same(once, store / "model_primary")


@pytest.mark.parametrize(
    "text, wanted",
    [
        ("saved as /home/me/models/main after 5 s", "saved as .../main after 5 s"),
        ("/data/my corpus/llm.txt: 2 tags", ".../my corpus/llm.txt: 2 tags"),
        ("/data/my corpus2/llm.txt", ".../my corpus2/llm.txt"),
        ("'/srv/store/x.json'|/srv/a/b|", "'.../x.json'|.../b|"),
        ("C:\\Users\\me\\models D:/a/b", ".../models .../b"),
        ("3,109 words/s, and/or 1/2/3, https://a.b/c/d ./a/b ../a/b ~/a/b", None),
        (".../corpus /", None),
    ],
)
def test_places_in_a_log_are_shortened_to_their_last_part(tmp_path, text, wanted):
    command = "train.py --corpus '/data/my corpus' --start=/x/y --repo ./models"
    run = run_json(command, corpus="/data/my corpus", encoder="bert-base-cased", start=None)
    write(tmp_path / "mine", **{"log.txt": text, "run.json": run})
    there = send(tmp_path / "mine", tmp_path / "sent")
    assert (there / "log.txt").read_text() == (wanted or text)
    run = json.loads((there / "run.json").read_text())
    assert run["command"] == "train.py --corpus '.../my corpus' --start=.../y --repo ./models"
    assert run["config"] == {"corpus": ".../my corpus", "encoder": "bert-base-cased", "start": None}


def test_places_with_odd_characters_are_shortened(tmp_path):
    place = '/home/zoë/a "b" c\\d/it\'s'
    texts = {
        "run.json": run_json(f"train.py --corpus {shlex.quote(place)}", corpus=place),
        "log.txt": place,
    }
    there = send(write(tmp_path / "mine", **texts), tmp_path / "sent")
    run = json.loads((there / "run.json").read_text())
    assert run["config"]["corpus"] == ".../it's"
    assert (there / "log.txt").read_text() == ".../it's"
    for name in texts:
        assert not re.search("home|zo", (there / name).read_text())


def test_a_published_checkpoint_is_sent_without_its_cache(tmp_path):
    config = '{"_name_or_path": "/home/me/bert", "id2label": {"0": "O"}}'
    tokens = '{"name_or_path": "bert-base-cased", "cache_dir": null, "unk_token": "/a/b",\n'
    tokens += '"special_tokens_map_file": "C:\\\\Users\\\\me\\\\map.json"}'
    texts = {"config.json": config, "tokenizer_config.json": tokens, "vocab.txt": "/\n/a/b\n"}
    there = send(write(tmp_path / "mine", **texts), tmp_path / "sent")
    assert (there / "config.json").read_text() == config.replace("/home/me/bert", ".../bert")
    wanted = tokens.replace("C:\\\\Users\\\\me\\\\map.json", ".../map.json")
    assert (there / "tokenizer_config.json").read_text() == wanted
    assert (there / "vocab.txt").read_text() == texts["vocab.txt"]


@pytest.mark.parametrize(
    "content", ["", "[", "\\udc80", '{"config": {"corpus": "/home/me/x"}', "[1e999]"]
)
def test_a_damaged_record_is_sent_without_places(tmp_path, content):
    there = send(write(tmp_path / "mine", **{"run.json": content}), tmp_path / "sent")
    assert (there / "run.json").read_text() == content.replace("/home/me/x", ".../x")


@pytest.mark.parametrize(
    "host", ["gpu1", "gpu-1.cs.uni.edu", "10.0.0.1", "node7", "x.so", "tfevents.3.host"]
)
def test_event_files_do_not_name_their_host(tmp_path, host):
    name = "logs/events.out.tfevents.1795666833.{}.7854.0"
    write(tmp_path, **{name.format(host): "\0"})
    assert name.format("host") in transfer.files_to_send(tmp_path)
    write(tmp_path, **{name.format("other"): "\1"})
    with pytest.raises(InputError, match="in the name of the host only"):
        transfer.files_to_send(tmp_path)


ODD = [".env", ".git/config", "a/.ssh/key", "evil.py", "x.PY", "x.Py.", "x.so", "x.SO.1", "a/x.dll"]
ODD += ["x.dylib", "x.exe", "x.sh", "x.pyc", "x.pickle", "pytorch_model.BIN", "a:b"]


@pytest.mark.parametrize("name", ODD)
def test_hidden_files_and_programs_are_not_sent(tmp_path, name):
    write(tmp_path, **{name: "x"})
    with pytest.raises(InputError, match=f"not sent; move away {re.escape(name)}$"):
        transfer.files_to_send(tmp_path)
    transfer.take(tmp_path, tmp_path / "taken")
    assert files(tmp_path / "taken") == {"config.json", "model.safetensors"}


def test_links_and_pipes_are_not_followed(tmp_path):
    secret = tmp_path / "secret"
    secret.mkdir()
    (secret / "key").write_text("key")
    for name, target in (("key", "secret/key"), ("folder", "secret"), ("none", "nowhere")):
        mine = write(tmp_path / f"of_{name}")
        (mine / name).symlink_to(tmp_path / target)
        with pytest.raises(InputError, match=f"links are not followed .* in the place of {name}$"):
            transfer.files_to_send(mine)
    os.mkfifo(write(tmp_path / "mine") / "pipe")
    with pytest.raises(InputError, match="what is no file .* move away pipe$"):
        transfer.files_to_send(tmp_path / "mine")


def test_of_many_odd_files_some_are_named(tmp_path):
    write(tmp_path, **{f"{i}.py": "" for i in range(8)})
    with pytest.raises(InputError, match=r"0\.py, 1\.py, 2\.py, 3\.py, 4\.py and 3 more$"):
        transfer.files_to_send(tmp_path)
