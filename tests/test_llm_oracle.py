"""A language model labels the rounds of active learning, before people or instead of them."""

import os
import shutil
import signal
import subprocess
import threading
import time
from collections import Counter
from pathlib import Path

import pytest
from conftest import TORCHRUN, refused, small, write_conll
from llm_server import Server
from test_active_learning import ROOT, answer, asked, questions, rounds_of, same

import active_learn
from nerc.active_learning import curves
from nerc.active_learning.config import ActiveConfig
from nerc.active_learning.oracle import labeller_of
from nerc.annotation.config import LlmConfig
from nerc.data import synthetic
from nerc.data.pool import Query, open_pool
from nerc.data.tags import to_iob2
from nerc.errors import InputError
from nerc.store import records
from nerc.store.revisions import Store

pytest.importorskip("openai", reason="the library openai is not installed")

GOLD = {tuple(words): tuple(to_iob2(tags)) for words, tags, _ in synthetic.generate("train", 48)}
KNOWN = dict([*GOLD.items()][:8])  # what experts labelled; the others can be asked for
PLAN = "--precision float32 --dropout 0 --data gold --epochs 1 --expert 6 --add 4 --rounds 2"
PLAN += " --types PER ORG LOC MISC"  # not all of which the experts' few sentences have
LLM = ("--oracle", "llm", "--model", "stub")


@pytest.fixture(scope="module")
def corpus(folder, tmp_path_factory) -> Path:
    """A few sentences that experts labelled, and many without labels."""
    corpus = tmp_path_factory.mktemp("corpus")
    shutil.copy(folder / "valid.txt", corpus / "valid.txt")
    write_conll(corpus / "train.txt", [(words, tags, 0) for words, tags in KNOWN.items()])
    rest = ["\n".join(words) + "\n" for words in GOLD if words not in KNOWN]
    (corpus / "unlabelled.txt").write_text("\n".join(rest))
    return corpus


@pytest.fixture(scope="module")
def line(corpus, encoder):
    """The flags of a run in a folder, which asks for 6, 4 and 4 sentences."""

    def line(repo: Path, *more) -> list[str]:
        fixed = [*small(corpus, encoder), *PLAN.split(), "--strategy", "random"]
        return [*fixed, "--repo", str(repo), *map(str, more)]

    return line


@pytest.fixture(scope="module")
def labelled(line, tmp_path_factory) -> tuple[Path, list[dict], list[str]]:
    """The store of a run, what its server was asked, and a key and a password that it used."""
    repo, secrets = tmp_path_factory.mktemp("llm") / "m", ["sk-of-a-test", "hunter2"]
    with pytest.MonkeyPatch.context() as patch, faulty() as server:
        patch.setenv("OPENAI_API_KEY", secrets[0])
        url = server.url.replace("://", f"://me:{secrets[1]}@")
        active_learn.main(line(repo, *LLM, "--base-url", url))
    return repo, server.requests, secrets


def faulty(**more) -> Server:
    """A server that refuses some sentences, always the same ones."""
    return Server(GOLD, faults={"refusal": 0.3}, again=1.0, **more)


def new(repo: Path) -> list[Query]:
    """What the rounds of a store asked for."""
    return [query for query in asked(repo, [*rounds_of(repo)][-1]) if query.strategy != "start"]


def answered(*logs: list[dict]) -> list[str]:
    """The requests that got a reply, by the hashes of their bodies."""
    return [about["body"] for log in logs for about in log if about["status"] == 200]


# ------------------------------------------------------------ instead of people


def test_the_model_labels_the_rounds_and_what_it_cannot_is_skipped(labelled):
    repo, requests, _ = labelled
    wrong = {tuple(about["sentence"].split(" ")) for about in requests if about["fault"]}
    queries = new(repo)
    assert [query.round for query in queries] == [0] * 6 + [1] * 4 + [2] * 4
    assert {q.words for q in queries if q.tags is None} == wrong and 0 < len(wrong) < 10
    assert all(q.tags in (None, GOLD[q.words]) and q.proposed is None for q in queries)
    assert {tuple(about["sentence"].split(" ")) for about in requests} == {q.words for q in queries}
    (*_, last) = rounds_of(repo).values()
    assert last["skipped"] == len(wrong)
    assert last["sentences"] == len(KNOWN) + 14 - len(wrong)


def test_what_the_model_labelled_is_not_called_the_experts(labelled):
    repo, _, _ = labelled
    name = [*rounds_of(repo)][-1]
    plan = rounds_of(repo)[name]["plan"]
    assert (plan["oracle"], plan["model"], plan["samples"]) == ("llm", "stub", 1)
    card, log = (repo / name / "README.md").read_text(), (repo / name / "log.txt").read_text()
    assert "- trained on: labels of experts or language models of the folder corpus" in card
    assert "- sentences labelled by experts or a language model: " in card
    assert "(stub)\n" in card and "expert" not in log
    store = Store(str(repo))
    (curve,) = curves.read_curves(store, *curves.read_store(store))
    assert curve.by_model  # so that plots do not speak of experts
    # `nerc results` takes runs for seeds of one another where their settings are the same.
    assert records.settings(records.read_run(repo / name))["model"] == "stub"


def test_no_key_and_no_password_is_written(labelled):
    repo, _, secrets = labelled
    written = b"".join(path.read_bytes() for path in repo.rglob("*") if path.is_file())
    assert b"--base-url http://127.0.0.1:" in written
    assert not [secret for secret in secrets if secret.encode() in written]


def test_examples_are_the_experts_sentences_and_no_answer_of_the_model(corpus, tmp_path):
    pool = open_pool(str(corpus), "llm", with_weak=False)
    labeller = labeller_of(LlmConfig(model="stub", base_url="http://127.0.0.1:1"), pool, tmp_path)
    assert {s.words: s.tags for s in labeller.examples.sentences} == KNOWN
    assert labeller.num_examples == 8
    assert labeller_of(LlmConfig(), pool, tmp_path) is None


def test_more_rounds_ask_only_for_what_is_new(labelled, line, tmp_path, capsys):
    repo, before, _ = labelled
    shutil.copytree(repo, tmp_path / "m")
    with faulty() as server:  # on another port
        more = (*LLM, "--base-url", server.url, "--concurrency", 2, "--rounds", 3, "--resume")
        active_learn.main(line(tmp_path / "m", *more))
    sentences = [about["sentence"] for about in server.requests]
    assert {*sentences} == {" ".join(q.words) for q in new(tmp_path / "m") if q.round == 3}
    assert len({*answered(before, server.requests)}) == len(answered(before, server.requests))
    assert len(new(tmp_path / "m")) == 18
    lines = (tmp_path / "m" / "llm.replies.jsonl").read_text().splitlines()
    assert len(lines) == len(answered(before, server.requests))


@pytest.mark.parametrize(
    "more, changed",
    [
        ("--model other", "model was stub, is other"),
        ("--samples 3", "samples was 1, is 3; temperature was 0.0, is 0.7"),
        ("--definitions none", "definitions was {'PER': "),
        ("--prompt PROMPT", "prompt-sha256 was "),
        ("--oracle labels --samples 2", "samples was 1, is 2; temperature was 0.0, is 0.7; oracle"),
    ],
)
def test_resuming_with_other_settings_says_what_differs(
    labelled, line, tmp_path, monkeypatch, capsys, more, changed
):
    monkeypatch.chdir(tmp_path)
    prompt = (ROOT / "nerc/annotation/prompt.md").read_text()
    Path("PROMPT").write_text(prompt.replace("entities", "names"))
    flags = line(labelled[0], *LLM, "--base-url", "http://127.0.0.1:1", *more.split(), "--resume")
    assert f"is of another run: {changed}" in refused(active_learn, capsys, *flags)


def test_a_server_that_knows_no_such_path_ends_the_run_and_resume_goes_on(
    labelled, line, tmp_path, capsys
):
    repo = tmp_path / "m"
    with faulty() as server:
        wrong = line(repo, *LLM, "--base-url", f"{server.url}/nowhere")
        message = refused(active_learn, capsys, *wrong)
        assert "error: round 0: http://127.0.0.1:" in message
        assert "check --base-url and --model; --resume continues the run" in message
        assert "give --resume to continue it" in refused(active_learn, capsys, *wrong)
        active_learn.main([*line(repo, *LLM, "--base-url", server.url), "--resume"])
    assert same(labelled[0], repo)


def test_max_cost_ends_the_run_and_more_money_goes_on(labelled, line, tmp_path, capsys):
    repo = tmp_path / "m"
    with faulty() as server:
        price = ("--base-url", server.url, "--token-price", 0, 1000, "--concurrency", 1)
        # A reply may have some 300 tokens, and has some 30.
        flags = line(repo, *LLM, *price, "--max-cost", 0.36)
        message = refused(active_learn, capsys, *flags)
        assert "error: round 0: --max-cost 0.36 leaves " in message
        assert "without an answer; give more, and --resume" in message
        spent = len(answered(server.requests))
        assert 0 < spent < 9
        message = refused(active_learn, capsys, *flags, "--resume")  # what was spent still counts
        assert " --max-cost 0.36 leaves " in message and len(server.requests) == spent
        active_learn.main([*line(repo, *LLM, *price, "--max-cost", 9), "--resume"])
    assert "; cost 0." in capsys.readouterr().out
    assert len(answered(server.requests)) == len({*answered(server.requests)}) > spent
    assert same(labelled[0], repo)


def test_a_signal_ends_the_asking_and_resume_asks_for_the_rest(labelled, line, tmp_path, capsys):
    repo = tmp_path / "m"

    round_0 = {" ".join(query.words) for query in new(labelled[0]) if query.round == 0}

    def stop_in_round_1(server) -> None:
        while {about["sentence"] for about in server.requests} <= round_0:
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGTERM)

    with faulty(latency=0.05) as server:
        flags = line(repo, *LLM, "--base-url", server.url, "--concurrency", 1)
        killer = threading.Thread(target=stop_in_round_1, args=(server,))
        killer.start()
        with pytest.raises(SystemExit) as stop:
            active_learn.main(flags)
        killer.join()
        assert stop.value.code == 128 + signal.SIGTERM
        assert "SIGTERM: continue with the same command and --resume" in capsys.readouterr().err
        assert len({about["sentence"] for about in server.requests} - round_0) <= 2
        server.latency = 0.0
        active_learn.main([*flags, "--resume"])
    assert len(answered(server.requests)) == len({*answered(server.requests)})
    assert same(labelled[0], repo)


def test_a_round_whose_answers_came_goes_on_without_the_server(
    labelled, line, tmp_path, monkeypatch
):
    repo = tmp_path / "m"

    def fail(*_, **__):
        raise InputError("no room")

    with faulty() as server, monkeypatch.context() as patch:
        flags = line(repo, *LLM, "--base-url", server.url, "--rounds", 1)
        patch.setattr("nerc.training.setup.prepare", fail)
        with pytest.raises(SystemExit):
            active_learn.main(flags)
    (repo / "llm.replies.jsonl").unlink()
    with faulty() as server:
        active_learn.main([*line(repo, *LLM, "--base-url", server.url), "--resume"])
    assert not {" ".join(q.words) for q in new(repo) if q.round == 0} & {
        about["sentence"] for about in server.requests
    }
    assert same(labelled[0], repo)


def test_a_model_that_labels_nothing_ends_the_run_with_the_reasons(line, tmp_path, capsys):
    with Server(GOLD, faults={"refusal": 1.0}, again=1.0) as server:
        flags = line(tmp_path / "m", *LLM, "--base-url", server.url)
        message = refused(active_learn, capsys, *flags)
    assert "error: round 0: the language model labelled 0 of 6 sentences; nobody labels" in message
    assert "the other 6; " in message and "; the last problem: " in message
    assert not rounds_of(tmp_path / "m")


def test_a_run_that_starts_from_the_experts_asks_in_round_1(line, tmp_path, capsys):
    with Server(GOLD) as server:
        flags = line(tmp_path / "m", *LLM, "--base-url", server.url, "--rounds", 1)
        active_learn.main([f for f in flags if f not in ("--expert", "6")])
    said = capsys.readouterr().out
    assert "round 0: the" not in said
    assert "round 1: the language model labelled 4 of 4 sentences\n" in said


# ------------------------------------------------------------ before people


def test_people_label_where_the_samples_differ(line, tmp_path, capsys):
    repo, labels = tmp_path / "m", tmp_path / "labels"
    more = ("--oracle", labels, "--model", "stub", "--samples", 3, "--rounds", 1)
    with Server(GOLD, varies=0.2, faults={"refusal": 0.15}, again=1.0) as server:
        flags = line(repo, *more, "--base-url", server.url)
        active_learn.main(flags)
        meant = {words: [server.model.meant(words, i) for i in range(3)] for words in GOLD}
        refusing = {
            words: [server.model.fault(words, 2, i) is not None for i in range(3)] for words in GOLD
        }
    out = capsys.readouterr().out
    first = {tuple(about["sentence"].split(" ")) for about in server.requests}
    assert len(first) == 6
    agreed = {
        w: meant[w][0] for w in first if meant[w] == 3 * meant[w][:1] and not any(refusing[w])
    }
    assert 0 < len(agreed) < 6
    # Two usable samples that agree are not all three.
    assert any(sum(refusing[w]) == 1 and meant[w] == 3 * meant[w][:1] for w in first)
    number = f"labelled {len(agreed)} of 6 sentences; people label the other {6 - len(agreed)}"
    assert f"round 0: the language model {number}" in out
    assert f"round 0 waits for labels of {6 - len(agreed)} sentence" in out
    rows = {tuple(row["words"]): row for row in questions(labels, 0)}
    assert rows.keys() == first - agreed.keys()
    for words, row in rows.items():
        usable = [
            tags for tags, is_bad in zip(meant[words], refusing[words], strict=True) if not is_bad
        ]
        if len(usable) < 2:
            assert row["entities"] == []
            continue
        votes = [Counter(of_word).most_common(1)[0][0] for of_word in zip(*usable, strict=True)]
        assert [e["type"] for e in row["entities"]] == [t[2:] for t in votes if t[0] == "B"]
        share = min(max(Counter(w).values()) for w in zip(*usable, strict=True)) / len(usable)
        assert row["score"] == pytest.approx(share, abs=1e-4)

    # The answers are checked, and the run goes on, without another question to the server.
    active_learn.main([*flags, "--check"])
    answer(labels, 0, lambda row, i: row | {"answer": "skip" if i == 0 else "accept"})
    active_learn.main([*flags, "--check"])
    assert (
        f"round 0: all {len(rows)} sentences are answered, without fault" in capsys.readouterr().out
    )
    with Server(GOLD) as server:  # whose samples do not differ
        active_learn.main([*line(repo, *more, "--base-url", server.url), "--resume"])
    said = capsys.readouterr().out
    assert "round 1: the language model labelled 4 of 4 sentences\n" in said
    assert "round 1 waits" not in said and "round 0: the language" not in said
    assert len(server.requests) == 4 * 3
    found = {query.words: query for query in new(repo)}
    skipped = tuple(questions(labels, 0)[0]["words"])
    for words in first:
        tags = agreed.get(words, found[words].proposed or ("O",) * len(words))
        assert found[words].tags == (None if words == skipped else tuple(tags))
    assert {about["plan"]["oracle"] for about in rounds_of(repo).values()} == {"llm, people"}


# ------------------------------------------------------------ flags, and several processes


@pytest.mark.parametrize(
    "more, message",
    [
        ("--oracle llm", "--model must be given with --oracle llm, not None"),
        ("--model stub", "--model must be left out with --oracle gold, whose labels are known"),
        ("--verify --samples 2", "--samples must be left out without --model, not 2"),
        (
            "--oracle labels --max-cost 1 --token-price 1 1",
            "--token-price must be left out without",
        ),
        ("--oracle labels --model stub", "--samples must be 2 or more with a folder and --model"),
        ("--oracle llm --model stub --ask words", "--ask must be sentences with --model, which"),
        ("--oracle llm --model stub --check", "--check must be left out with --oracle llm, where"),
        ("--oracle llm --exchange jsonl", "--exchange must be left out with --oracle llm, where"),
        ("--oracle llm --seeds 1 2", "--seeds must be a single one when people label (--oracle"),
        ("--oracle llm --strategy mnlp random", "--strategy must be a single one when people"),
        ("--oracle llm --model stub --base-url http://a --definitions F", "error: F: "),
        ("--oracle llm --model stub", "OpenAI wants a key: set the environment variable OPENAI_AP"),
    ],
)
def test_flags_that_do_not_fit_are_refused(corpus, tmp_path, monkeypatch, capsys, more, message):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    fixed = ["--corpus", str(corpus), "--data", "gold", "--types", *"PER ORG LOC MISC".split()]
    fixed = [] if "--oracle" not in more else fixed
    assert message in refused(active_learn, capsys, *fixed, *more.split())


def test_a_folder_with_the_name_llm_can_hold_answers(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("llm").mkdir()
    assert not ActiveConfig(oracle="llm").people and ActiveConfig(oracle="./llm").people
    Path("llm/round_1.jsonl").touch()
    with pytest.raises(InputError, match="--oracle must be ./llm for the folder here"):
        ActiveConfig(oracle="llm")


@pytest.mark.slow
def test_of_two_processes_one_asks(labelled, line, tmp_path):
    with faulty(latency=0.05) as server:
        command = line(tmp_path / "m", *LLM, "--base-url", server.url)
        command = [*TORCHRUN, "2", "active_learn.py", *command]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert sorted(answered(server.requests)) == sorted(answered(labelled[1]))
    assert new(tmp_path / "m") == new(labelled[0])
