"""Labels from a language model: a real client asks a stub of a server, whose replies are faulty."""

import csv
import json
import os
import random
import re
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from conftest import refused, write_conll
from llm_replies import FAULTS
from llm_server import Server

from nerc.annotation import chat, prompt
from nerc.annotation.prompt import Examples
from nerc.annotation.replies import Replies
from nerc.commands import annotate
from nerc.data import synthetic, tags
from nerc.data.conll import read_conll, read_words
from nerc.data.corpus import Corpus, Sentence

pytest.importorskip("openai")

KEY = "sk-the-key-that-nobody-may-see"
ROOT = Path(__file__).parents[1]


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """No key of this machine, and retries that wait for milliseconds."""
    for name in ("OPENAI_API_KEY", "OPENAI_BASE_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(chat, "FIRST_WAIT", 0.01)


@pytest.fixture
def folder(tmp_path) -> Path:
    """40 expert sentences, and 120 without labels, some of them twice."""
    train = list(synthetic.generate("train", 160))
    write_conll(tmp_path / "train.txt", train[:40])
    words = [(words, ["O"] * len(words), document) for words, _, document in train[40:]]
    write_conll(tmp_path / "unlabelled.txt", [*words, *words[:5]])
    return tmp_path


@pytest.fixture(scope="session")
def sentences() -> dict:
    """What the stub answers from."""
    rows = synthetic.generate("train", 160)
    return {tuple(words): tuple(tags) for words, tags, _ in rows}


def flags(folder: Path, server: Server | None, *more: object) -> list[str]:
    url = ["--base-url", server.url] if server else []
    return [*map(str, ("--corpus", folder, "--model", "stub", *url, *more))]


def run(folder: Path, server: Server | None, *more: object) -> None:
    annotate.main(flags(folder, server, *more))


def labels(folder: Path, name: str = "llm") -> dict[tuple[str, ...], tuple[str, ...]]:
    return {s.words: s.tags for s in read_conll(folder / f"{name}.txt", weak=True)}


def record(folder: Path, name: str = "llm") -> dict:
    return json.loads((folder / f"{name}.run.json").read_text())


def faulty(folder: Path) -> list[dict[str, str]]:
    """The rows of llm.faults.csv."""
    with (folder / "llm.faults.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def kept(folder: Path) -> list[dict]:
    """The lines of llm.replies.jsonl."""
    text = (folder / "llm.replies.jsonl").read_text(encoding="utf-8")
    return [json.loads(line) for line in text.splitlines()]


def bodies(server: Server) -> list[str]:
    """The hashes of the requests that got a reply."""
    return [
        r["body"]
        for r in server.requests
        if r["status"] == 200 and r["transport"] != "dropped_midway"
    ]


# ------------------------------------------------------------------- faults

TRANSPORT = {"429": 0.03, "429_bare": 0.03, "500": 0.03, "503": 0.03, "dropped": 0.03}
TRANSPORT |= {"dropped_midway": 0.03, "slow": 0.01}


@pytest.mark.parametrize("form", ["inline", "json"])
def test_every_fault_is_recovered_from_or_counted_and_no_label_is_wrong(
    folder, sentences, form, capsys
):
    names = [name for name, fault in FAULTS.items() if form in fault.formats]
    faults = TRANSPORT | {name: 0.8 / len(names) for name in names}
    with Server(sentences, faults=faults, again=0.5, errors=0.2, slow=1.0) as server:
        run(folder, server, "--format", form, "--timeout", 0.5)
        requests = [r for r in server.requests if r["status"] == 200]
    meant = {tuple(r["sentence"].split(" ")): tuple(r["meant"]) for r in requests}
    lost = {
        tuple(r["sentence"].split(" "))
        for r in requests
        if r["try"] == 2 and r["fault"] and not FAULTS[r["fault"]].is_recoverable
    }
    planted = {r["fault"] for r in requests if r["fault"]}
    assert len(planted) > len(names) / 2 and lost
    written = labels(folder)
    assert written == {words: tags for words, tags in meant.items() if words not in lost}
    # The sentences are those of the file, each as often and in its document.
    wanted = [s for s in read_words(folder / "unlabelled.txt") if s.words not in lost]
    found = list(read_conll(folder / "llm.txt", weak=True))
    assert [s.words for s in found] == [s.words for s in wanted]
    assert len({s.document for s in found}) == len({s.document for s in wanted})
    # The counts of the record are those of the server.
    first = Counter(r["body"] for r in requests if r["try"] == 2)
    by_kind = record(folder)["faults"]
    assert sum(kind["first"] for kind in by_kind.values()) == len(first)
    assert sum(kind["unlabelled"] for kind in by_kind.values()) == len(lost)
    rows = faulty(folder)
    assert {tuple(row["sentence"].split(" ")) for row in rows} == lost
    assert all(row["fault"] in by_kind and row["problem"] for row in rows)
    assert "different sentences unlabelled" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("fault", "kind", "form"),
    [
        ("changed", "words changed", "inline"),
        ("missing", "words missing", "inline"),
        ("extra", "words added", "inline"),
        ("order", "words in another order", "inline"),
        ("unknown_type", "unknown type", "inline"),
        ("nested", "entities within entities", "inline"),
        ("unclosed", "tags that do not pair", "inline"),
        ("within_word", "entity ends within a word", "inline"),
        ("refusal", "refused", "inline"),
        ("cut_off", "cut off", "inline"),
        ("empty", "empty", "inline"),
        ("two_answers", "different answers", "inline"),
        ("json", "no valid JSON", "json"),
        ("absent", "entity not in the sentence", "json"),
        ("occurrence", "occurrence unclear", "json"),
        ("refusal", "refused", "json"),
    ],
)
def test_each_fault_is_counted_under_its_name(folder, sentences, fault, kind, form):
    with Server(sentences, faults={fault: 1.0}, again=1.0) as server:
        try:
            run(folder, server, "--format", form, "--quiet")
        except SystemExit:  # no sentence escapes the fault
            assert not (folder / "llm.txt").exists()
        hit = {r["sentence"] for r in server.requests if r["try"] == 2 and r["fault"] == fault}
    assert len(hit) > 50
    assert record(folder)["faults"] == {kind: {"first": len(hit), "unlabelled": len(hit)}}


def test_what_needs_no_second_try_gets_none(folder, sentences):
    names = [name for name, fault in FAULTS.items() if fault.is_recoverable]
    with Server(sentences, faults={name: 1 / len(names) for name in names}) as server:
        run(folder, server, "--quiet")
        assert {r["try"] for r in server.requests} == {1}
        assert {r["fault"] for r in server.requests} > {"prose", "case", "spacing"}
    assert labels(folder) == {words: sentences[words] for words in labels(folder)}
    assert not (folder / "llm.faults.csv").exists()


# ------------------------------------------------------------------- nothing twice


def test_the_same_command_asks_nothing_twice(folder, sentences):
    with Server(sentences) as server:
        run(folder, server, "--quiet")
        number = len(server.requests)
        # Sentences with the same words are one request.
        assert number == len({s.words for s in read_words(folder / "unlabelled.txt")})
        before = (folder / "llm.txt").read_bytes()
        run(folder, server, "--quiet")
        assert len(server.requests) == number and (folder / "llm.txt").read_bytes() == before
        run(folder, server, "--quiet", "--overwrite", "--examples", 2)
        assert len(server.requests) == 2 * number  # another question


def launched(folder: Path, server: Server, *more: object) -> subprocess.Popen:
    command = [sys.executable, "-m", "nerc", "annotate", *flags(folder, server, *more)]
    return subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def wait_for(server: Server, number: int, process: subprocess.Popen) -> None:
    while len(server.requests) < number and process.poll() is None:
        time.sleep(0.002)


@pytest.mark.parametrize(
    "times", [2, pytest.param(20, marks=pytest.mark.slow)], ids=["twice", "twenty"]
)
def test_a_kill_loses_only_the_requests_under_way(folder, sentences, times):
    faults = {"changed": 0.2, "empty": 0.1, "500": 0.05}
    draw, concurrency = random.Random(0), 4
    with Server(sentences, faults=faults, again=0.5) as server:
        run(folder, server, "--quiet", "--name", "whole")
    with Server(sentences, faults=faults, again=0.5, latency=0.02) as server:
        for _ in range(times):
            number = len(server.requests)
            process = launched(folder, server, "--concurrency", concurrency)
            wait_for(server, number + draw.randrange(1, max(3, 150 // times)), process)
            time.sleep(draw.random() * 0.02)
            process.kill()
            process.communicate()
        run(folder, server, "--concurrency", concurrency, "--quiet")
        repeated = sum(n - 1 for n in Counter(bodies(server)).values())
    assert repeated <= times * concurrency
    for file in ("txt", "faults.csv"):
        assert (folder / f"llm.{file}").read_bytes() == (folder / f"llm.whole.{file}").read_bytes()
    keys = [row["key"] for row in kept(folder)]
    assert len(keys) == len(set(keys)) == len(set(bodies(server)))


def test_an_interrupted_command_keeps_the_replies_under_way(folder, sentences):
    with Server(sentences, latency=0.05) as server:
        process = launched(folder, server, "--concurrency", 4)
        wait_for(server, 20, process)
        process.send_signal(signal.SIGTERM)
        output, _ = process.communicate(timeout=20)
        assert process.returncode == 128 + signal.SIGTERM and "Traceback" not in output
        assert "the same command goes on" in output
        assert len(kept(folder)) == len(server.requests) and not (folder / "llm.txt").exists()
        run(folder, server, "--quiet")
        assert len(bodies(server)) == len(set(bodies(server)))


@pytest.mark.slow
def test_a_signal_while_the_threads_start_ends_the_command_as_ever(folder, sentences):
    draw = random.Random(0)
    with Server(sentences) as server:
        run(folder, server, "--quiet")
        codes = Counter()
        for _ in range(15):
            command = [sys.executable, "-u", "-m", "nerc", "annotate"]
            command += flags(folder, server, "--concurrency", 1000)
            process = subprocess.Popen(command, cwd=ROOT, stdout=-1, stderr=-1, text=True)
            while "asking" not in process.stdout.readline():
                pass
            time.sleep(draw.random() * 0.3)
            process.send_signal(signal.SIGUSR1)
            _, errors = process.communicate(timeout=60)
            assert "Traceback" not in errors, errors
            codes[process.returncode] += 1
    assert codes.keys() <= {0, 128 + signal.SIGUSR1} and codes[128 + signal.SIGUSR1]


def test_two_commands_do_not_add_to_one_file(folder, sentences, capsys):
    with Replies(folder / "llm.replies.jsonl").open(), Server(sentences) as server:
        assert "another command" in refused(annotate, capsys, *flags(folder, server))
    run(folder, None, "--dry-run")


def test_a_damaged_line_of_replies_is_named(folder, sentences, capsys):
    with Server(sentences) as server:
        run(folder, server, "--quiet")
        file = folder / "llm.replies.jsonl"
        first, second, *rest = file.read_text().split("\n")
        file.write_text("\n".join([first, second[:40], *rest]))
        capsys.readouterr()
        error = refused(annotate, capsys, *flags(folder, server))
    assert "llm.replies.jsonl:2: is not JSON" in error


def test_what_a_kill_left_of_a_last_line_is_removed_and_asked_again(folder, sentences, capsys):
    with Server(sentences) as server:
        run(folder, server, "--quiet")
        file, before = folder / "llm.replies.jsonl", (folder / "llm.txt").read_bytes()
        whole = file.read_bytes()
        file.write_bytes(whole[:-20])
        number = len(server.requests)
        run(folder, server)
        assert len(server.requests) == number + 1
    assert "its last line is incomplete, as after a kill" in capsys.readouterr().out
    assert (folder / "llm.txt").read_bytes() == before
    assert sorted(file.read_bytes().splitlines()) == sorted(whole.splitlines())


# ------------------------------------------------------------------- costs


def test_max_cost_is_never_passed_and_a_higher_one_goes_on(folder, sentences):
    prices = ("--token-price", 10.0, 20.0)
    with Server(sentences) as server:
        run(folder, server, "--quiet", *prices, "--max-cost", 0.5)
        first = record(folder)
        assert 0.4 < first["cost"] <= 0.5
        assert 0 < first["labelled"] < 125
        rows = faulty(folder)
        assert len(rows) == 125 - first["labelled"]
        assert {row["fault"] for row in rows} == {"not asked"}
        run(folder, server, "--quiet", *prices, "--max-cost", 50)
        assert record(folder)["labelled"] == 125
        assert len(bodies(server)) == len(set(bodies(server))) == record(folder)["replies"]
    usage = kept(folder)
    tokens = record(folder)["tokens"]
    assert tokens["questions"] == sum(row["prompt_tokens"] for row in usage)
    assert tokens["answers"] == sum(row["reply_tokens"] for row in usage)
    cost = (10 * tokens["questions"] + 20 * tokens["answers"]) / 1e6
    assert record(folder)["cost"] == pytest.approx(cost)


def test_a_dry_run_asks_nothing_and_writes_nothing(folder, sentences, capsys):
    before = {path.name for path in folder.iterdir()}
    with Server(sentences) as server:
        run(folder, server, "--dry-run", "--token-price", 1, 1)
        assert server.requests == [] and {path.name for path in folder.iterdir()} == before
        out = capsys.readouterr().out
        estimated = int(
            re.search(r"questions, estimated by 4 bytes.*\| +([\d,]+) \|", out)[1].replace(",", "")
        )
        run(folder, server, "--quiet")
    tokens = record(folder)["tokens"]["questions"]  # which the stub counts by characters, too
    assert 0.8 < estimated / tokens < 1.25
    assert "system: You find the named entities" in out and "- PER: person" in out
    capsys.readouterr()
    run(folder, None, "--dry-run")
    assert "requests, without second tries" in (out := capsys.readouterr().out)
    assert re.search(r"second tries +\| +0 \|", out)


# ------------------------------------------------------------------- samples


def test_shares_of_samples_become_probabilities(folder, sentences, capsys):
    with Server(sentences, varies=0.3) as server:
        run(folder, server, "--samples", 4)
        meant: dict[tuple, list] = {}
        for r in server.requests:
            meant.setdefault(tuple(r["sentence"].split(" ")), []).append(r["meant"])
        assert {r["seed"] for r in server.requests} == {0, 1, 2, 3}
    corpus = read_conll(folder / "llm.txt", weak=True)
    assert any(len({*map(tuple, rows)}) > 1 for rows in meant.values())
    for sentence in corpus:
        soft = corpus.soft.get(sentence.location) or [None] * len(sentence.words)
        for i, (tag, of_word) in enumerate(zip(sentence.tags, soft, strict=True)):
            shares = Counter(row[i] for row in meant[sentence.words])
            given = of_word or {tag: 1.0}
            assert given == {t: n / 4 for t, n in shares.items()}  # quarters have few digits
            assert shares[tag] == max(shares.values())
    assert record(folder)["settings"]["temperature"] == 0.7


def test_verification_is_one_more_vote(folder, sentences):
    """The stub says yes where an entity is among those of gold."""
    with Server(sentences, varies=0.4) as server:
        run(folder, server, "--samples", 2, "--verify", "--quiet")
        asked = [r for r in server.requests if r["kind"] == "verify"]
        meant: dict[tuple, list] = {}
        for r in server.requests:
            if r["kind"] == "inline":
                meant.setdefault(tuple(r["sentence"].split(" ")), []).append(r["meant"])
    corpus = read_conll(folder / "llm.txt", weak=True)
    num_doubted = 0
    for sentence in {s.words: s for s in corpus}.values():
        one, two = ({*tags.entities(row)} for row in meant[sentence.words])
        votes = [Counter(of_word) for of_word in zip(*meant[sentence.words], strict=True)]
        for entity in one ^ two:
            num_doubted += 1
            is_right = entity in tags.entities(sentences[sentence.words])
            for i in range(entity.start, entity.end):
                inside = f"{'B' if i == entity.start else 'I'}-{entity.type}"
                votes[i][inside if is_right else "O"] += 1
        soft = corpus.soft.get(sentence.location) or [None] * len(votes)
        for tag, of_word, wanted in zip(sentence.tags, soft, votes, strict=True):
            shares = {t: n / wanted.total() for t, n in wanted.items()}
            assert (of_word or {tag: 1.0}) == pytest.approx(shares, abs=1e-6)
    assert num_doubted == len(asked) > 0


def test_a_sentence_whose_samples_are_mostly_faulty_stays_unlabelled(folder, sentences):
    with Server(sentences, faults={"empty": 0.6}, again=1.0) as server:
        run(folder, server, "--samples", 3, "--quiet")
        good = Counter()
        for r in server.requests:
            if r["fault"] is None:
                good[tuple(r["sentence"].split(" "))] += 1
    words = {s.words for s in read_words(folder / "unlabelled.txt")}
    assert labels(folder).keys() == {w for w in words if good[w] >= 2} != words


# ------------------------------------------------------------------- batches


def answer_batch(server: Server, requests: Path, results: Path) -> None:
    """What the batch service does; each fifth request fails."""
    lines = []
    for number, line in enumerate(requests.read_text().splitlines()):
        row = json.loads(line)
        assert row["method"] == "POST" and row["url"] == "/v1/chat/completions"
        if number % 5 == 4:
            response = {"status_code": 500, "body": {}}
        else:
            reply, _ = server.completion(row["body"], row["custom_id"])
            response = {"status_code": 200, "body": reply}
        done = {"id": f"r{number}", "custom_id": row["custom_id"], "response": response}
        lines.append(json.dumps(done | {"error": None}))
    results.write_text("\n".join(reversed(lines)) + "\n")


def test_batches_give_what_requests_give(folder, sentences, capsys):
    faults = {"changed": 0.3, "empty": 0.1}
    with Server(sentences, faults=faults, again=0.5) as server:
        run(folder, server, "--name", "asked", "--quiet")
        asked, replies = len(server.requests), []
        for number in range(20):
            batch, results = folder / f"b{number}.jsonl", folder / f"r{number}.jsonl"
            given = ["--batch-replies", *replies] if replies else []
            capsys.readouterr()
            run(folder, None, "--name", "batch", "--batch", batch, *given)
            if "every request has its reply" in capsys.readouterr().out:
                break
            answer_batch(server, batch, results)
            replies.append(results)
        assert 2 < number < 19 and len(server.requests) == asked
        more = ("--name", "batch", "--batch")
        for name in ("b0.jsonl", "train.txt"):
            error = refused(annotate, capsys, *flags(folder, None, *more, folder / name))
            assert f"{name}: is there already" in error
        wrong = ("--name", "batch", "--batch-replies", folder / "b0.jsonl")
        error = refused(annotate, capsys, *flags(folder, server, *wrong))
        assert "b0.jsonl:1: is a request, not a reply" in error
        run(folder, server, "--name", "batch", "--quiet")
        assert len(server.requests) == asked
    assert (folder / "llm.batch.txt").read_bytes() == (folder / "llm.asked.txt").read_bytes()


# ------------------------------------------------------------------- choosing


def test_choose_compares_ways_on_expert_sentences_alone(folder, sentences, capsys):
    with Server(sentences, errors=0.2) as server:
        run(folder, server, "--choose", 20, "--token-price", 1, 2)
        out = capsys.readouterr().out
        number = len(server.requests)
        asked = {tuple(r["sentence"].split(" ")) for r in server.requests}
        experts = {s.words for s in read_conll(folder / "train.txt")}
        assert asked <= experts and number == 7 * len(asked)
        run(folder, server, "--choose", 20, "--quiet")
        assert len(server.requests) == number
    rows = [line.split("|")[1:-1] for line in out.splitlines() if line.startswith("| --format")]
    assert [row[0].strip() for row in rows][:5] == [
        f"--format inline --examples {n}" for n in (0, 2, 4, 8, 16)
    ]
    assert len(rows) == 7 and rows[6][0].strip().endswith("--definitions none")
    scores = {float(row[1]) for row in rows}
    assert len(scores) == 1 and 0.6 < scores.pop() < 1  # the stub is no better with examples
    assert rows[1][7].strip() == "+0.0000" and rows[5][7].strip() == ""
    assert "(of equal ones, the first): --format inline --examples 0" in out
    assert not (folder / "llm.txt").exists()


# ------------------------------------------------------------------- prompts


def test_examples_are_the_nearest_expert_sentences_but_never_the_sentence_itself():
    rows = ["Ada met Bo", "the bank rose", "Ada met the bank", "Zed met Bo", "Ada met Bo"]
    corpus = Corpus.of(
        Sentence(tuple(text.split()), ("O",) * len(text.split()), f"x:{i}", 0)
        for i, text in enumerate(rows)
    )
    examples = Examples(corpus)
    assert [" ".join(s.words) for s in examples.nearest("Zed met Ada".split(), 2)] == [
        "Ada met Bo",  # shares two words, the rarest of which is in three sentences
        "Zed met Bo",  # shares the rarest word
    ]
    near = examples.nearest("Ada met Bo".split(), 3)
    assert len(near) == 3 and all(s.words != ("Ada", "met", "Bo") for s in near)
    assert examples.nearest(["unknown"], 9)[-1].words == ("Ada", "met", "Bo")


def test_neither_validation_nor_the_sentence_is_an_example(folder, sentences):
    write_conll(folder / "valid.txt", [(["Never", "shown"], ["O", "O"], 1)])
    with Server(sentences) as server:
        run(folder, server, "--split", "train", "--quiet", "--name", "train")
    file = folder / "llm.train.replies.jsonl"
    assert labels(folder, "llm.train").keys() == {s.words for s in read_conll(folder / "train.txt")}
    assert "Never shown" not in file.read_text()


def test_a_changed_prompt_is_used_and_kept_in_the_record(folder, sentences):
    own = folder / "prompt.md"
    text = prompt.PROMPT.read_text(encoding="utf-8")
    own.write_text(text.replace("You find the named entities", "Please find the names"))
    with Server(sentences) as server:
        run(folder, server, "--quiet")
        number = len(server.requests)
        run(folder, server, "--quiet", "--name", "own", "--prompt", own)
        assert len(server.requests) == 2 * number
    first, second = record(folder), record(folder, "llm.own")
    assert second["prompt"]["task"].startswith("Please find the names")
    assert first["settings"]["prompt_sha256"] != second["settings"]["prompt_sha256"]


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (("## again", "## aagain"), "no section '## again'"),
        (("{problem}", ""), "the section again lacks {problem}"),
        (("{sentence}\n\n## verify", "{sentence}!\n\n## verify"), "last line of the section again"),
        (("## task", "## more\nx\n\n## task"), "the section more has no use"),
    ],
)
def test_a_prompt_that_cannot_work_is_refused(folder, change, told, capsys):
    own = folder / "prompt.md"
    own.write_text(prompt.PROMPT.read_text(encoding="utf-8").replace(*change))
    error = refused(annotate, capsys, *flags(folder, None, "--dry-run", "--prompt", own))
    assert told in error and str(own) in error


def test_definitions_come_from_a_file(tmp_path, capsys):
    write_conll(tmp_path / "unlabelled.txt", [(["Aspirin", "helps"], ["O", "O"], 1)])
    own = tmp_path / "types.txt"
    own.write_text("# ours\nDRUG: medicine, by its name\n\nGENE: gene\n")
    run(tmp_path, None, "--dry-run", "--definitions", own)
    assert "- DRUG: medicine, by its name\n- GENE: gene\n" in capsys.readouterr().out
    run(tmp_path, None, "--dry-run", "--types", "GENE", "--definitions", "none")
    assert "- GENE\n" in capsys.readouterr().out
    assert "--types, or --definitions" in refused(annotate, capsys, *flags(tmp_path, None))
    own.write_text("DRUG\n")
    error = refused(annotate, capsys, *flags(tmp_path, None, "--definitions", own))
    assert f"{own}:1: found 'DRUG', wanted TYPE: definition" in error


# ------------------------------------------------------------------- errors


def test_keys_appear_nowhere(folder, sentences, monkeypatch, capsys):
    """Neither in files, nor in the log, nor in an error, even where the server repeats the key."""
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    with Server(sentences, faults={"empty": 0.2, "500": 0.1}, again=1.0) as server:
        run(folder, server, "--token-price", 1, 1)
        with pytest.raises(SystemExit):
            annotate.main(["--help"])
        secret = server.url.replace("//", f"//user:{KEY}@")
        run(folder, None, "--base-url", secret, "--name", "other")
    out, err = capsys.readouterr()
    monkeypatch.setattr(chat, "MOST_TRIES", 1)
    for url in (secret, f"http://127.0.0.1:1/{KEY}"):
        with pytest.raises(SystemExit):
            run(folder, None, "--base-url", url, "--name", "third")
    more_out, more_err = capsys.readouterr()
    text = out + err + more_out + more_err
    assert "sentences unlabelled" in out and "Connection refused" in more_err and KEY not in text
    for path in folder.iterdir():
        assert KEY not in path.read_text(encoding="utf-8"), path


def test_a_server_that_is_not_there_ends_the_command_soon(folder, monkeypatch, capsys):
    monkeypatch.setattr(chat, "MOST_TRIES", 2)
    error = refused(annotate, capsys, *flags(folder, None, "--base-url", "http://127.0.0.1:1/v1"))
    assert "requests for 10 texts in a row failed" in error and "Connection refused" in error
    assert not (folder / "llm.txt").exists() and not list(folder.glob("*.replies.jsonl"))


@pytest.mark.parametrize(
    ("reply", "told"),
    [
        (b"<html>Log in</html>", "is not JSON"),
        (b"", "is not JSON"),
        (b'{"choices": []}', "choices is [], wanted a list with one choice"),
        (b'{"choices": [{"message": {"content": 1}}]}', "content is 1, wanted text"),
    ],
)
def test_a_server_that_speaks_another_protocol_is_told_from_a_busy_one(folder, reply, told, capsys):
    with answering(reply) as url:
        started = time.monotonic()
        error = refused(annotate, capsys, *flags(folder, None, "--base-url", url))
        assert time.monotonic() - started < 20  # it is not asked again and again
    assert "requests for 10 texts in a row failed" in error and told in error


def test_tokens_that_the_server_does_not_count_are_estimated(tmp_path, capsys):
    write_conll(tmp_path / "unlabelled.txt", [(["Oslo", "won"], ["O", "O"], 1)])
    message = {"content": "<LOC>Oslo</LOC> won"}
    reply = {"choices": [{"message": message}], "usage": {"prompt_tokens": "many"}}
    with answering(json.dumps(reply).encode()) as url:
        run(tmp_path, None, "--base-url", url, "--types", "LOC", "--token-price", 1, 1)
    assert labels(tmp_path) == {("Oslo", "won"): ("B-LOC", "O")}
    assert "the server did not count the tokens of 1 reply" in capsys.readouterr().out
    assert (
        record(tmp_path)["estimated_counts"] == 1 and record(tmp_path)["tokens"]["questions"] > 99
    )


@contextmanager
def answering(reply: bytes) -> Iterator[str]:
    """The address of a server that gives the same reply to all."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(200)
            self.send_header("Content-Length", str(len(reply)))
            self.end_headers()
            self.wfile.write(reply)

        def log_message(self, *_) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/v1"
        server.shutdown()
        thread.join()


def test_openai_itself_needs_a_key(folder, capsys):
    assert "set the environment variable OPENAI_API_KEY" in refused(
        annotate, capsys, *flags(folder, None)
    )


def test_a_request_that_the_server_refuses_is_counted_with_its_reason(folder, sentences, capsys):
    known = dict(list(sentences.items())[:-1])
    with Server(known) as server:
        run(folder, server)
    kinds = record(folder)["faults"]
    assert kinds["no reply"]["unlabelled"] == len(sentences) - len(known)
    rows = faulty(folder)
    assert all("the stub cannot answer" in row["problem"] for row in rows)


def test_labels_of_others_are_not_replaced(folder, sentences, capsys):
    with Server(sentences) as server:
        (folder / "llm.txt").write_text("Ada B-PER\n")
        assert "annotate did not write it" in refused(annotate, capsys, *flags(folder, server))
        assert server.requests == [] and (folder / "llm.txt").read_text() == "Ada B-PER\n"
        run(folder, server, "--overwrite", "--quiet")
        capsys.readouterr()
        error = refused(annotate, capsys, *flags(folder, server, "--examples", 3))
        assert "was written with examples 8, and not 3" in error


@pytest.mark.parametrize(
    ("more", "told"),
    [
        (["--max-cost", "1"], "--max-cost needs --token-price"),
        (["--verify"], "--verify needs --samples 2 or more"),
        (["--extra", '{"n": 2}'], "--extra must be a JSON object without model"),
        (["--temperature", "hot"], "--temperature must be 0 to 2, or server"),
        (["--name", "a.b"], "--name must be letters"),
        (["--choose", "50"], "--choose 50: there are only 40 expert sentences"),
        (["--choose", "5", "--batch", "x"], "left out with --choose"),
        (["--sentences", "500"], "there are only 125 sentences in unlabelled.txt"),
        (["--base-url", "localhost:8000"], "--base-url must be an address"),
        (["--extra", '{"temperature": 1}'], "--extra must be a JSON object without model"),
        (["--prompt", "missing.md"], "missing.md: no such file"),
        (["--types", "A|B"], "the type 'A|B' cannot be written to weak labels"),
        (["--types", "A<B"], "the type A<B cannot stand in inline tags; give --format json"),
        (["--labeller", "gliner", "--samples", "2"], "left out with --labeller gliner"),
    ],
)
def test_bad_flags_are_refused_in_one_line(folder, more, told, capsys):
    assert told in refused(annotate, capsys, *flags(folder, None, *more))


def test_a_wait_that_the_server_asks_for_is_kept():
    day = {"retry-after": "Wed, 21 Oct 2065 07:28:00 GMT"}
    assert chat.seconds_to_wait({"retry-after": "1.5"}) == 1.5
    assert chat.seconds_to_wait(day) > 1e9
    assert (
        chat.seconds_to_wait({}) is None and chat.seconds_to_wait({"retry-after": "soon"}) is None
    )


# ------------------------------------------------------------------- a real model


@pytest.mark.slow
def test_a_real_server_with_a_model_that_answers_nonsense(folder, tmp_path, capsys):
    """`transformers serve` with a tiny random model: nothing is labelled, and it is said why."""
    for library in ("fastapi", "uvicorn"):
        pytest.importorskip(library)
    make = ROOT.parent / "shared" / "probes" / "tiny_llm.py"
    if not make.exists():
        pytest.skip(f"the program that makes a tiny model is not at {make}")
    subprocess.run([sys.executable, make], cwd=tmp_path, check=True, capture_output=True)
    port = 8000 + os.getpid() % 1000
    home = tmp_path / "home"
    (home / "hub").mkdir(parents=True)
    command = [Path(sys.executable).with_name("transformers"), "serve", "--port", str(port)]
    server = subprocess.Popen(
        command,
        cwd=tmp_path,
        env=os.environ | {"HF_HOME": str(home)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    url = f"http://127.0.0.1:{port}"
    try:
        for _ in range(240):
            if (
                subprocess.run(["curl", "-sf", f"{url}/health"], capture_output=True).returncode
                == 0
            ):
                break
            time.sleep(0.25)
        more = ("--base-url", f"{url}/v1", "--sentences", 6, "--concurrency", 1)
        more += ("--max-reply-tokens", 40, "--examples", 1, "--model", tmp_path / "tiny")
        error = refused(annotate, capsys, *flags(folder, None, *more))
    finally:
        server.terminate()
        server.wait()
    assert "no sentence of 6 got labels" in error
    assert not (folder / "llm.txt").exists() and record(folder)["labelled"] == 0
