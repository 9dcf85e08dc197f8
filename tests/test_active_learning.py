"""Rounds of active learning: what they ask for, who answers, and that nothing is lost."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import TORCHRUN, refused, small, write_conll
from safetensors.torch import load_file

import active_learn
import evaluate
import train
from nerc.active_learning import learner, plan
from nerc.cli import parse
from nerc.data import sources, synthetic
from nerc.data.conll import read_conll
from nerc.data.pool import (
    Query,
    open_pool,
)
from nerc.data.tags import to_iob2
from nerc.errors import InputError
from nerc.store import query_records, transfer
from nerc.store.revisions import Store

ROOT = Path(__file__).parents[1]
FEW = "--combine pretrain --precision float32 --dropout 0 --num-threads 1".split()


def flags(folder, encoder, repo, *more) -> list[str]:
    return [*small(folder, encoder), *FEW, "--repo", str(repo), *map(str, more)]


def make_plan(line: list[str]) -> plan.Plan:
    """The plan of a command line."""
    *configs, _, _ = parse(line, "active_learn.py", "", *active_learn.CONFIGS)
    return plan.make_plan(*configs, Store(configs[-1].repo), "active_learn.py")


def rounds_of(repo: Path) -> dict[str, dict]:
    """What run.json says of each round, by name."""
    found = {path.parent.name: json.loads(path.read_text()) for path in repo.glob("*/run.json")}
    return {name: run["active"] for name, run in sorted(found.items()) if "active" in run}


def asked(repo: Path, name: str) -> list[Query]:
    return query_records.read(repo / name)


def same(one: Path, two: Path) -> bool:
    """Whether two stores hold the same rounds: names, queries and weights, bit for bit."""
    if [*rounds_of(one)] != [*rounds_of(two)]:
        return False
    for name in rounds_of(one):
        a, b = (load_file(repo / name / "model.safetensors") for repo in (one, two))
        if asked(one, name) != asked(two, name) or not all(a[k].equal(b[k]) for k in a):
            return False
    return True


PLAN = ("--expert", 8, "--add", 6, "--rounds", 2)
THREE = ("--strategy", "mnlp", "random", "random-words")


@pytest.fixture(scope="module")
def store(folder, encoder, tmp_path_factory) -> Path:
    """Two rounds of three strategies, from the same first sentences."""
    repo = tmp_path_factory.mktemp("active") / "models"
    active_learn.main(flags(folder, encoder, repo, *PLAN, *THREE))
    return repo


def test_every_round_is_a_revision_that_says_what_it_acquired(store, folder):
    names = [f"active_iter_{r}_added_{p}_{s}" for r, p in ((1, 20), (2, 28.57)) for s in THREE[1:3]]
    assert {*names, "active_iter_0_added_11.43"} < {*rounds_of(store)} and len(
        rounds_of(store)
    ) == 7
    gold = {s.words: s.tags for s in sources.load(str(folder), "train")}
    weak = {s.words for s in sources.load(str(folder), "llm")}
    for name, about in rounds_of(store).items():
        own = asked(store, name)
        assert about["sentences"] == len(own) == len({q.words for q in own})
        assert about["words"] == sum(len(q.words) for q in own)
        assert all(q.tags == gold[q.words] and q.cheap == (q.words in weak) for q in own)
        first = [q for q in own if q.round == 0]
        assert first == asked(store, "active_iter_0_added_11.43") and len(first) == 8
        assert {q.strategy for q in own if q.round} <= {about["strategy"]}
        assert all((q.score is None) == q.strategy.startswith("random") for q in own)
    assert not (store / ".checkpoints").exists()
    name = "active_iter_2_added_28.57_mnlp"
    card = (store / name / "README.md").read_text()
    assert f"- expert sentences: 20, {rounds_of(store)[name]['words']:,} words\n" in card
    assert "- active learning: round 2, mnlp\n" in card


def test_expert_labels_replace_weak_ones_in_training(store, folder, capsys):
    name = "active_iter_2_added_28.57_mnlp"
    run = json.loads((store / name / "run.json").read_text())
    acquired = {q.words for q in asked(store, name)}
    weak = [s for s in sources.load(str(folder), "llm") if s.words not in acquired]
    assert run["data"]["train"]["sentences"] == len(acquired) + len(weak)
    evaluate.main(["--repo", str(store), "--revision", name, "--details"])
    out = capsys.readouterr().out
    assert "entity in training: no" in out and "have changed" not in out


def test_random_words_asks_for_as_many_words_as_the_first_strategy(store):
    words = {}
    for name, about in rounds_of(store).items():
        own = [q for q in asked(store, name) if q.round == about["round"]]
        words[about["strategy"], about["round"]] = sum(len(q.words) for q in own)
        longest = max(len(q.words) for q in own)
    for number in (1, 2):
        assert abs(words["random-words", number] - words["mnlp", number]) <= longest / 2


def test_every_round_adds_to_the_queries_of_the_one_before(store):
    for name, about in rounds_of(store).items():
        if about["round"]:
            before = asked(store, about["start"])
            own = asked(store, name)
            assert own[: len(before)] == before
            assert {q.round for q in own[len(before) :]} == {about["round"]}


def test_mnlp_asks_for_what_it_scores_highest(store, folder):
    from nerc.active_learning import strategies
    from nerc.data.corpus import Corpus
    from nerc.data.pool import open_pool
    from nerc.model import encoding, inference
    from nerc.store import model_files

    model, tokenizer = model_files.load_revision(store / "active_iter_0_added_11.43")
    pool = open_pool(str(folder), "gold", with_weak=True)
    had = {q.words for q in asked(store, "active_iter_0_added_11.43")}
    free = Corpus.of(s for s in pool.sentences if s.words not in had)
    rows = inference.predict(model, encoding.encode_for(model, tokenizer, free))
    score = dict(zip([s.words for s in free], strategies.mnlp(rows), strict=True))
    own = [q for q in asked(store, "active_iter_1_added_20_mnlp") if q.round == 1]
    assert [q.score for q in own] == pytest.approx([score[q.words] for q in own], rel=1e-4)
    assert [q.score for q in own] == sorted((q.score for q in own), reverse=True)
    left_out = [s for w, s in score.items() if w not in {q.words for q in own}]
    passed_over = sum(s > own[-1].score for s in left_out)  # near-duplicates and the like
    assert passed_over <= 6


def test_copies_of_a_sentence_are_asked_for_once(encoder, folder, tmp_path, capsys):
    corpus = shutil.copytree(folder, tmp_path / "corpus")
    text = (corpus / "train.txt").read_text()
    (corpus / "train.txt").write_text(text + "\n" + text)
    repo = tmp_path / "models"
    more = ("--expert", 60, "--add", 30, "--rounds", 2, "--data", "gold")
    more += ("--strategy", "random", "mnlp")
    line = [f for f in flags(corpus, encoder, repo, *more) if f not in ("--combine", "pretrain")]
    active_learn.main(line)
    different = len({s.words for s in sources.load(str(folder), "train")})
    for name in (name for name, about in rounds_of(repo).items() if about["round"] == 1):
        words = [q.words for q in asked(repo, name)]
        assert len(words) == len({*words}) == different
    assert len(rounds_of(repo)) == 3  # nothing is left for another round
    assert f"round 1: only {different - 60} sentences are left, of 30" in capsys.readouterr().out


def test_resume_goes_on_with_more_rounds(store, folder, encoder, tmp_path, capsys):
    line = ("--expert", 8, "--add", 6, "--strategy", "mnlp", "random", "random-words")
    for number in (1, 2):
        active_learn.main(
            flags(folder, encoder, tmp_path / "m", *line, "--rounds", number, "--resume")
        )
    assert same(store, tmp_path / "m")
    message = refused(
        active_learn, capsys, *flags(folder, encoder, tmp_path / "m", *line, "--rounds", 3)
    )
    assert "is there already; give --resume" in message
    capsys.readouterr()
    active_learn.main(flags(folder, encoder, tmp_path / "m", *line, "--rounds", 1, "--resume"))
    said = capsys.readouterr().out
    assert "all 2 rounds of mnlp, seed 0, are complete; to continue, give more --rounds" in said
    other = [*line[:4], "--strategy", "random", "random-words", "mnlp", "--resume"]
    message = refused(active_learn, capsys, *flags(folder, encoder, tmp_path / "m", *other))
    assert (
        "acquired as many words as mnlp, and now would acquire as many as random; give" in message
    )
    other = [*line[:2], "--add", 7, *line[4:], "--resume"]
    message = refused(active_learn, capsys, *flags(folder, encoder, tmp_path / "m", *other))
    assert "is of another run: add was 6, is 7" in message
    other = flags(folder, encoder, tmp_path / "m", *line, "--resume")
    other[other.index(str(folder))] = "sample:60"
    assert "is of another run: the corpus had other sentences" in refused(
        active_learn, capsys, *other
    )


def edit_rounds(repo: Path, change) -> None:
    """Apply change to the record of every round, as another version might have written it."""
    for path in repo.glob("active_iter_*/run.json"):
        run = json.loads(path.read_text())
        change(run)
        path.write_text(json.dumps(run))


def test_another_precision_is_refused_and_what_auto_chose_is_told(
    store, folder, encoder, tmp_path, capsys
):
    repo = shutil.copytree(store, tmp_path / "m")
    line = flags(folder, encoder, repo, *PLAN, *THREE, "--resume")
    other = ["auto" if flag == "float32" else flag for flag in line]
    assert "another run: precision was float32, is auto" in refused(active_learn, capsys, *other)

    def as_if_in_bf16(run):
        del run["active"]["plan"]["precision"]  # earlier versions did not write it
        run["precision"] = "bf16"

    edit_rounds(repo, as_if_in_bf16)
    active_learn.main(line)
    said = capsys.readouterr().out
    assert "all 2 rounds of mnlp, seed 0, are complete" in said and "bf16" not in said
    more = (*PLAN[:4], "--rounds", 3, "--strategy", "mnlp", "--resume", "--quiet")
    active_learn.main(flags(folder, encoder, repo, *more))
    said = capsys.readouterr().out
    assert said.count("rounds so far were computed in bf16, this one goes on in float32") == 1


def test_rounds_of_versions_with_more_flags_go_on(store, folder, encoder, tmp_path, capsys):
    repo = shutil.copytree(store, tmp_path / "m")
    line = flags(folder, encoder, repo, *PLAN, *THREE, "--resume")
    edit_rounds(repo, lambda run: run["active"]["plan"].update(from_last=False))
    active_learn.main(line)
    assert "all 2 rounds of mnlp, seed 0, are complete" in capsys.readouterr().out
    edit_rounds(repo, lambda run: run["active"]["plan"].update(from_last=True))
    message = refused(active_learn, capsys, *line)
    assert "is of another run: from-last was True, is False" in message


def test_rounds_from_the_hub_go_on(store, folder, encoder, tmp_path, capsys):
    """There, records have the last parts of paths alone."""
    repo = tmp_path / "m"
    for name in rounds_of(store):
        for file, content in transfer.files_to_send(store / name).items():
            (repo / name / file).parent.mkdir(parents=True, exist_ok=True)
            content = content if isinstance(content, bytes) else content.read_bytes()
            (repo / name / file).write_bytes(content)
    plan = rounds_of(repo)["active_iter_0_added_11.43"]["plan"]
    assert plan["encoder"] == f".../{encoder.name}"
    active_learn.main(flags(folder, encoder, repo, *PLAN, *THREE, "--resume"))
    assert "all 2 rounds of mnlp, seed 0, are complete" in capsys.readouterr().out
    elsewhere = shutil.copytree(encoder, tmp_path / "bert")
    other = flags(folder, elsewhere, repo, *PLAN, *THREE, "--resume")
    wanted = f"is of another run: encoder was .../{encoder.name}, is {elsewhere}"
    assert wanted in refused(active_learn, capsys, *other)
    start = f"--start active_iter_0_added_11.43 --corpus {folder} --repo {repo}".split()
    message = refused(active_learn, capsys, *start)
    assert f"has only the end of a path, encoder .../{encoder.name}; write" in message


def test_notes_of_every_round_are_printed_once(folder, encoder, tmp_path, capsys):
    corpus = shutil.copytree(folder, tmp_path / "corpus")
    (corpus / "test.txt").unlink()
    more = ("--expert", 8, "--add", 6, "--rounds", 1, "--strategy", "random", "mnlp")
    active_learn.main(flags(corpus, encoder, tmp_path / "m", *more, "--epochs", 1))
    said = capsys.readouterr().out
    assert said.count("has no test.txt, which holds the test sentences") == 1
    note = "2 I- tags do not continue an entity"
    assert said.count(note) == 1
    logs = [path.read_text() for path in (tmp_path / "m").glob("*/log.txt")]
    assert len(logs) == 3 and all(note in log for log in logs)


def test_what_needs_no_model_is_refused_before_the_libraries_load(store, folder, encoder, tmp_path):
    usual = flags(folder, encoder, tmp_path / "m", "--expert", 8)
    lines = [
        flags(folder, encoder, store, *PLAN, *THREE),  # its rounds are there
        flags(folder, encoder, store, *PLAN, *THREE, "--add", 7, "--resume"),
        flags(tmp_path / "nowhere", encoder, tmp_path / "m"),
        [*usual, "--expert", "71"],
        [*usual, "--oracle", str(folder / "train.txt")],
        [*usual, "--strategy", "bald"],
    ]
    code = f"""
import sys, active_learn
for line in {lines!r}:
    try:
        active_learn.main(line)
    except SystemExit as stop:
        assert stop.code == 2
    assert "torch" not in sys.modules, line
"""
    run = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert run.returncode == 0 and run.stderr.count(": error: ") == len(lines), run.stderr


def killed_at(moments, folder, encoder, repo) -> int:
    """Run a plan that is killed so many seconds after each start; how often it was."""
    line = [
        *flags(folder, encoder, repo, *PLAN, *THREE),
        "--checkpoint-every",
        "1",
        "--resume",
    ]
    kills = 0
    for moment in moments:
        run = subprocess.Popen(
            [sys.executable, "active_learn.py", *line],
            cwd=ROOT,
            start_new_session=True,
            stdout=subprocess.DEVNULL,
        )
        try:
            run.wait(moment)
            assert run.returncode == 0
        except subprocess.TimeoutExpired:
            os.killpg(run.pid, signal.SIGKILL)
            run.wait()
            kills += 1
    active_learn.main(line)
    return kills


def test_a_run_killed_at_any_moment_ends_as_the_undisturbed_one(store, folder, encoder, tmp_path):
    moments = [random.Random(os.getpid()).uniform(3, 6)]
    assert killed_at(moments, folder, encoder, tmp_path / "models") == 1
    assert same(store, tmp_path / "models"), moments


@pytest.mark.slow
def test_a_run_killed_ten_times_ends_as_the_undisturbed_one(store, folder, encoder, tmp_path):
    draw = random.Random(os.getpid())
    moments = [draw.uniform(2.5, 5) for _ in range(10)]
    assert killed_at(moments, folder, encoder, tmp_path / "models") >= 8
    assert same(store, tmp_path / "models"), moments


def test_a_run_that_a_signal_stopped_can_be_resumed(store, folder, encoder, tmp_path):
    line = flags(folder, encoder, tmp_path / "m", *PLAN, *THREE)
    with subprocess.Popen(
        [sys.executable, "-u", "active_learn.py", *line, "--status", str(tmp_path / "status")],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as run:
        for said in run.stdout:
            if said.startswith("round 1:"):
                run.send_signal(signal.SIGTERM)
        error = run.stderr.read()
    assert run.returncode == 128 + signal.SIGTERM
    assert "interrupted by SIGTERM: continue with the same command and --resume" in error
    assert json.loads((tmp_path / "status").read_text())["state"] == "interrupted"
    active_learn.main([*line, "--resume"])
    assert same(store, tmp_path / "m")


def test_two_processes_ask_for_what_one_asks_for(store, folder, encoder, tmp_path):
    line = flags(folder, encoder, tmp_path / "m", *PLAN, *THREE)
    done = subprocess.run(
        [*TORCHRUN, "2", "active_learn.py", *line], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    for name in rounds_of(store):
        a, b = ([q._replace(score=None) for q in asked(r, name)] for r in (store, tmp_path / "m"))
        assert a == b


# ------------------------------------------------------------ where it starts, what it refuses


def test_a_start_asks_first_and_its_experts_are_known(folder, encoder, tmp_path, capsys):
    repo = tmp_path / "models"
    train.main([*small(folder, encoder), "--repo", str(repo), "--data", "mixed", "--expert", "9",
                "--combine", "pretrain"])  # fmt: skip
    line = [
        "--start",
        "model_mixed_9_sentences",
        "--rounds",
        "1",
        "--add",
        "10%",
        "--repo",
        str(repo),
    ]
    line += ["--corpus", str(folder), *FEW, "--epochs", "1"]
    active_learn.main(line)
    (name,) = rounds_of(repo)
    assert name == "active_iter_1_added_22.86"
    own = asked(repo, name)
    assert [q.strategy for q in own] == 9 * ["start"] + 7 * ["default"]
    run = json.loads((repo / name / "run.json").read_text())
    assert run["config"]["start"] is None and run["active"]["start"] == "model_mixed_9_sentences"
    assert run["config"]["encoder"] == str(encoder) and run["config"]["lstm_hidden_size"] == 16
    assert run["config"]["dropout"] == 0  # as given; that of the start is another
    message = refused(active_learn, capsys, *line, "--tokenizer", "x")
    assert "--tokenizer must be left out" in message
    shutil.copytree(repo / "model_mixed_9_sentences", repo / "other")
    line[line.index("--start") + 1] = "other"
    message = refused(active_learn, capsys, *line, "--resume")
    assert "is of a run with --start model_mixed_9_sentences; give another --repo" in message
    assert "another --repo, with a copy of other in it" in message


@pytest.mark.parametrize(
    "more, message",
    [
        ("--start main", "no revision main in"),
        ("--add 0w", "--add must be a percentage above 0 and up to 100, such as 12%, or a whole"),
        ("--add 5x", "number above 0, of sentences (50) or words (500w), not '5x'"),
        ("--strategy mnlp mnlp", "--strategy must be different names"),
        ("--strategy random defualt", "--strategy: invalid choice: 'defualt' (choose from"),
        ("--add 1 2 3 --rounds 2", "--add must be one amount, or up to 2, one for each of"),
        ("--seeds 1 2 --seed 3", "--seed must be left out with --seeds"),
        ("--seeds 1 1", "--seeds must be different numbers"),
        ("--types PER", "--types must be left out with --oracle gold"),
        ("--exchange jsonl", "--exchange must be left out with --oracle gold"),
        ("--check", "--check must be left out with --oracle gold"),
        ("--oracle answers --exchange jsonl doccano", "of jsonl, prodigy and doccano one at most"),
        ("--oracle answers --annotators 0", "--annotators must be 1 or more"),
        (
            "--oracle answers --seeds 1 2",
            "--seeds must be a single one when people label (--oracle DIR)",
        ),
        ("--expert 71", "--expert 71: there are only 70 sentences; ask for no more"),
    ],
)
def test_bad_flags_are_refused(folder, encoder, tmp_path, monkeypatch, capsys, more, message):
    monkeypatch.chdir(tmp_path)
    line = [*small(folder, encoder), "--repo", tmp_path / "m", "--epochs", 1, "--expert", 5]
    line = line[: -2 if "--start" in more else None]
    if "--start" in more:
        line = [f for f in line if f not in ("--encoder", str(encoder), "--lstm-hidden-size", "16")]
    assert message in refused(active_learn, capsys, *line, *more.split())


def test_strategies_ask_for_an_amount_of_words_from_several_seeds(folder, encoder, tmp_path):
    more = ("--strategy", "margin", "least-confidence", "default", "--rounds", 1, "--add", "40w")
    line = flags(folder, encoder, tmp_path, "--expert", 9, *more)
    active_learn.main([*line, "--seeds", "4", "5"])
    assert len(rounds_of(tmp_path)) == 2 * (1 + 3)
    for name, about in rounds_of(tmp_path).items():
        assert name.endswith(f"_seed{about['seed']}")
        own = [q for q in asked(tmp_path, name) if q.round == 1]
        if about["round"]:
            assert 20 < sum(len(q.words) for q in own) < 60


# ------------------------------------------------------------ when it stops


def test_plateau_needs_three_rounds_without_a_gain():
    for scores, flat in (
        ([0.1, 0.2, 0.3, 0.4], False),
        ([0.3, 0.2, 0.3, 0.301], True),
        ([0.3, 0.2, 0.3, 0.303], False),
        ([0.3, 0.3, 0.3], False),
        ([None] * 9, False),
    ):
        assert learner.has_plateaued(scores) is flat, scores


def test_stop_ends_a_run_before_its_last_round(folder, encoder, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(learner, "MIN_GAIN", 2.0)  # more than F1 can rise
    line = ("--expert", 8, "--add", 4, 2, "--rounds", 9, "--strategy", "random")
    line += ("--stop", "plateau")
    active_learn.main(flags(folder, encoder, tmp_path, *line, "--epochs", 1))
    assert "--stop plateau ends the run before round 5" in capsys.readouterr().out
    found = [about["sentences"] for about in rounds_of(tmp_path).values()]
    assert found == [8, 12, 14, 16, 18]


def test_a_run_that_was_stopped_stays_stopped(folder, encoder, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(learner, "MIN_GAIN", 2.0)
    line = ("--expert", 8, "--add", 4, "--rounds", 9, "--strategy", "random", "--epochs", 1)
    line = flags(folder, encoder, tmp_path, *line, "--stop", "plateau")
    active_learn.main(line)
    before = rounds_of(tmp_path)
    assert [about["round"] for about in before.values()] == [0, 1, 2, 3, 4]
    capsys.readouterr()
    active_learn.main([*line, "--resume"])
    assert "--stop plateau ends the run before round 5" in capsys.readouterr().out
    assert rounds_of(tmp_path) == before


def test_experts_may_label_all_there_is(folder, encoder, tmp_path):
    everything = ("--expert", 70, "--rounds", 1, "--epochs", 1, "--combine", "selftrain")
    active_learn.main(flags(folder, encoder, tmp_path, *everything))
    (about,) = rounds_of(tmp_path).values()
    assert about["sentences"] == 70


def test_types_that_only_weak_labels_have_are_not_the_experts(tmp_path):
    write_conll(tmp_path / "train.txt", [(("Tui", "sings"), ("B-PER", "O"), 0)])
    write_conll(tmp_path / "llm.txt", [(("Kiwi", "grows"), ("B-FRUIT", "O"), 0)])
    asked = Query(1, "mnlp", 0.5, "here:1", ("Kiwi", "grows"), ("B-LOC", "O"))
    for oracle, answered, wanted in (
        ("gold", [], {"PER"}),
        (str(tmp_path / "labels"), [], {"PER"}),
        (str(tmp_path / "labels"), [asked], {"PER", "LOC"}),
    ):
        pool = open_pool(str(tmp_path), oracle, with_weak=True)
        assert pool.acquired_labels(answered).expert.entity_types() == wanted
    assert pool.types == {"PER", "FRUIT"}  # which answers may have


def test_queries_of_any_words_can_be_read_again(tmp_path):
    words = ("a\u2028b", "c\x85d", "\x1c", '"', "\\")
    own = [
        Query(1, "mnlp", 0.5, "here:1", words, ("O",) * 5),
        Query(1, "mnlp", None, "", words, None),
    ]
    (tmp_path / query_records.FILE).write_text(query_records.to_text(own), encoding="utf-8")
    assert query_records.read(tmp_path) == own
    assert query_records.from_text(query_records.to_text([]), tmp_path) == []


ROW = Query(1, "mnlp", 0.5, "here:1", ("Te", "Puke"), ("B-LOC", "I-LOC"), None, True)._asdict()


@pytest.mark.parametrize(
    "change, fault",
    [
        ({"tags": ["B-LOC"]}, "has 2 words but 1 tags"),
        ({"tags": ["B-LOC", "I-LOC", "O"]}, "has 2 words but 3 tags"),
        ({"proposed": ["O"]}, "has 2 words but 1 proposed"),
        ({"tags": ["B-LOC", "I-PER"]}, 'tags is ["B-LOC", "I-PER"], wanted a list of IOB2 tags'),
        ({"tags": ["S-LOC", "O"]}, "wanted a list of IOB2 tags"),
        ({"tags": ["B-", "O"]}, "wanted a list of IOB2 tags"),
        ({"tags": ["X", "X"]}, "wanted a list of IOB2 tags"),
        ({"tags": "OO"}, 'tags is "OO", wanted a list'),
        ({"tags": [None, "O"]}, "tags[0] is null, wanted text"),
        ({"words": []}, "words is [], wanted a list of words, at least one"),
        ({"words": "Te"}, 'words is "Te", wanted a list'),
        ({"words": [1, 2]}, "words[0] is 1, wanted text"),
        ({"round": -1}, "round is -1, wanted 0 or more"),
        ({"round": True}, "round is true, wanted a whole number"),
        ({"score": "high"}, 'score is "high", wanted a finite number or null'),
        ({"score": float("nan")}, "score is NaN, wanted a finite number or null"),
        ({"strategy": None}, "strategy is null, wanted text"),
        ({"origin": 3}, "origin is 3, wanted text"),
        ({"cheap": "no"}, 'cheap is "no", wanted true or false'),
        ({"more": 1}, "has an unknown field, more"),
        ("[1]", "its content is [1], wanted an object"),
        ('{"round": 1}', "has no strategy"),
        (json.dumps({k: v for k, v in ROW.items() if k != "tags"}), "has no tags"),
        ("{", "is not JSON"),
    ],
)
def test_a_damaged_query_is_named_with_line_and_field(tmp_path, change, fault):
    line = change if isinstance(change, str) else json.dumps(ROW | change)
    path = tmp_path / query_records.FILE
    path.write_text(f"{json.dumps(ROW)}\n{line}\n")
    with pytest.raises(InputError) as error:
        query_records.read(tmp_path)
    assert str(error.value).startswith(f"{path}:2: ") and fault in str(error.value)


def test_queries_are_read_from_a_file_that_ends(tmp_path):
    path = tmp_path / query_records.FILE
    os.mkfifo(path)
    with pytest.raises(InputError, match="is a pipe, wanted a file"):
        query_records.read(tmp_path)
    path.unlink()
    path.write_bytes(b"\xff")
    with pytest.raises(InputError, match="is not UTF-8 at byte 0"):
        query_records.read(tmp_path)


def test_a_round_whose_queries_were_changed_is_refused(store, folder, encoder, tmp_path, capsys):
    repo = shutil.copytree(store, tmp_path / "m")
    line = flags(folder, encoder, repo, *PLAN, *THREE, "--resume")
    path = repo / [*rounds_of(repo)][-1] / query_records.FILE
    own = query_records.read(path.parent)
    path.write_text(query_records.to_text(own[:-1]))
    message = refused(active_learn, capsys, *line)
    assert f"{path}: is not as its run wrote it (another SHA-256 than in run.json)" in message
    path.write_text(query_records.to_text(own))
    active_learn.main(line)


def test_a_damaged_neighbour_stops_no_round(store, folder, encoder, tmp_path):
    repo = shutil.copytree(store, tmp_path / "m")
    line = flags(folder, encoder, repo, *PLAN, *THREE, "--resume")
    (name, *_) = rounds_of(repo)
    (repo / "other").mkdir()
    (repo / "other/config.json").write_text("{}")
    (repo / "other/run.json").write_text("{")
    plan.check_store(make_plan(line), Store(str(repo)))
    (repo / name / "run.json").write_text("{")
    with pytest.raises(InputError, match=f"{name}/run.json"):
        plan.check_store(make_plan(line), Store(str(repo)))


@pytest.mark.parametrize(
    "change, fault",
    [
        ({"queries": None}, "queries is null, wanted text"),
        ({"queries": "{"}, ":1: is not JSON"),
        ({"seconds": "long"}, 'seconds is "long", wanted a finite number'),
        ({"scoring": -1}, "scoring is -1, wanted 0 or more"),
        ({"skipped": 1}, "skipped is 1, wanted true or false"),
        ({"words": ["never", "seen"]}, "asks for a sentence that the corpus lacks, or twice"),
        ({"round": 7}, "is of another round than 1"),
        ({"tags": ["O"]}, "tags"),
    ],
)
def test_a_damaged_state_is_named_with_its_field(folder, encoder, tmp_path, change, fault):
    made = make_plan(flags(folder, encoder, tmp_path / "m", *PLAN))
    state = plan.TrialState(made, made.trials()[0][1], Store(str(tmp_path / "m")))
    first = made.pool.sentences[0]
    query = Query(1, "default", 0.5, first.location, first.words, None)
    state.folder.mkdir(parents=True)
    state.write_query(plan.RoundQuery(1, [query], 0.5, 0.1))
    assert state.read_query(1) == (1, [query], 0.5, 0.1, False, False)
    of_query = {name: change[name] for name in change if name in Query._fields}
    row = json.dumps(query._asdict() | of_query) + "\n"
    values = {"queries": row, "seconds": 0.5, "scoring": 0.1, "skipped": False}
    path = state.folder / "round_1.json"
    path.write_text(json.dumps(values | {n: v for n, v in change.items() if n in values}))
    with pytest.raises(InputError) as error:
        state.read_query(1)
    assert str(error.value).startswith(str(path)) and fault in str(error.value)


# ------------------------------------------------------------ people


@pytest.fixture
def unlabelled(tmp_path, folder) -> Path:
    """A corpus without train.txt: weak labels, and text."""
    corpus = tmp_path / "corpus"
    corpus.mkdir()
    for name in ("valid.txt", "llm.txt"):
        shutil.copy(folder / name, corpus / name)
    write_conll(corpus / "unlabelled.txt", synthetic.generate("train", 30))
    return corpus


def questions(folder: Path, number: int) -> list[dict]:
    text = (folder / f"round_{number}.jsonl").read_text()
    return [json.loads(line) for line in text.splitlines()]


def answer(folder: Path, number: int, change) -> None:
    """Answer the questions of a round: change(row, index) gives each line, None for no line."""
    rows = [change(row, i) for i, row in enumerate(questions(folder, number))]
    text = "".join(json.dumps(row) + "\n" for row in rows if row)
    (folder / f"round_{number}.answers.jsonl").write_text(text)


def test_a_careless_annotator_loses_nothing(unlabelled, encoder, tmp_path, capsys):
    repo, labels = tmp_path / "models", tmp_path / "labels"
    more = ("--expert", 6, "--add", 4, "--rounds", 2, "--oracle", labels)
    line = flags(unlabelled, encoder, repo, *more)

    active_learn.main(line)
    assert "round 0 waits for labels of 6 sentences: copy" in capsys.readouterr().out
    rows = questions(labels, 0)
    assert len(rows) == 6 and all(row["answer"] is None for row in rows)
    (labels / "round_0.answers.jsonl").write_text("EU,B-ORG\nrejects,O\n")  # a wrong file
    message = refused(active_learn, capsys, *line, "--resume")
    assert "2 faults, named above, in the answers of round 0" in message

    def faulty(row, i):
        text, end = row["text"], len(row["words"][0])
        if i == 0:  # a span that ends before it begins
            spans = [(end + 1, end, "PER")]
        elif i == 1:
            return row | {"answer": "yes"}
        elif i == 2:
            spans = [(0, len(text), "PRE")]
        elif i == 3:
            return row | {"answer": "accept", "words": ["never", "asked"], "entities": []}
        else:
            spans = []
        entities = [{"start": a, "end": b, "type": c} for a, b, c in spans]
        return row | {"answer": "accept", "entities": entities}

    answer(labels, 0, faulty)
    with pytest.raises(SystemExit):
        active_learn.main([*line, "--resume"])
    said, error = capsys.readouterr()
    for fault in (
        "round_0.answers.jsonl:1: the entity ",
        " is not within the text",
        'round_0.answers.jsonl:2: answer is "yes", wanted',
        "round_0.answers.jsonl:3: the type PRE is not among PER, ORG, LOC, MISC",
        "round_0.answers.jsonl:4: the word 'never' does not follow in the text",
    ):
        assert fault in said
    assert "4 faults" in error and not repo.joinpath("active_iter_0_added_6").exists()

    # Half of it, one skipped, one without an entity; then the rest, of which two as CoNLL.
    answer(
        labels, 0, lambda row, i: row | {"answer": [None, "accept", "skip"][i] if i < 3 else None}
    )
    active_learn.main([*line, "--resume"])
    wanted = "round 0 waits for answers to 4 more sentences (2 are done) in"
    assert wanted in capsys.readouterr().out
    active_learn.main([*line, "--check"])
    assert wanted in capsys.readouterr().out
    first = rows[0]["words"]
    skipped = rows[3]["words"]
    done = [(first, ["B-PER", *["O"] * (len(first) - 1)], 0), (skipped, len(skipped) * ["X"], 0)]
    write_conll(labels / "round_0.answers.conll", done)
    rest = {0: None, 2: "skip", 3: None}
    answer(labels, 0, lambda row, i: row | {"answer": rest.get(i, "accept")})
    active_learn.main([*line, "--check"])
    assert "round 0: all 6 sentences are answered, without fault" in capsys.readouterr().out
    assert not rounds_of(repo)
    active_learn.main([*line, "--resume"])
    assert "round 1 waits for labels of 4 sentences" in capsys.readouterr().out
    active_learn.main([*line, "--check"])
    assert "round 1 waits for labels of 4 sentences" in capsys.readouterr().out
    (name,) = rounds_of(repo)
    own = asked(repo, name)
    assert [q.words for q in own] == [tuple(row["words"]) for row in rows]
    assert own[0].tags == ("B-PER", *["O"] * (len(first) - 1))
    assert own[2].tags is own[3].tags is None
    weak = {s.words: to_iob2(s.tags) for s in read_conll(unlabelled / "llm.txt", weak=True)}
    for query in (own[1], own[4]):  # a weak label is what round 0 proposes
        assert list(query.tags) == weak.get(query.words, ["O"] * len(query.words))
    assert any(query.words in weak for query in own)
    assert rounds_of(repo)[name]["sentences"] == 4 and rounds_of(repo)[name]["skipped"] == 2

    asks = questions(labels, 1)
    assert not {tuple(row["words"]) for row in asks} & {q.words for q in own}
    assert all(
        row["text"][e["start"] : e["end"]] == e["text"] for row in asks for e in row["entities"]
    )
    for number in (1, 2):
        answer(labels, number, lambda row, i: row | {"answer": "accept"})
        active_learn.main([*line, "--resume"])
    assert [about["round"] for about in rounds_of(repo).values()] == [0, 1, 2]
    proposed = [q for q in asked(repo, [*rounds_of(repo)][-1]) if q.round]
    assert all(q.tags == q.proposed for q in proposed)


def test_a_round_that_was_skipped_is_not_asked_again(unlabelled, encoder, tmp_path, capsys):
    repo, labels = tmp_path / "models", tmp_path / "labels"
    more = ("--expert", 6, "--add", 2, "--rounds", 2, "--oracle", labels)
    line = flags(unlabelled, encoder, repo, *more, "--resume")
    active_learn.main(line)
    for number, what in enumerate(("accept", "skip")):
        answer(labels, number, lambda row, i, what=what: row | {"answer": what})
        active_learn.main(line)
    assert "round 1: all 2 were skipped" in capsys.readouterr().out
    skipped = [tuple(row["words"]) for row in questions(labels, 1)]
    for path in labels.glob("round_1*"):
        path.unlink()
    answer(labels, 2, lambda row, i: row | {"answer": "accept"})
    active_learn.main(line)
    assert [about["round"] for about in rounds_of(repo).values()] == [0, 2]
    own = asked(repo, [*rounds_of(repo)][-1])
    assert {q.words for q in own if q.tags is None} == {*skipped}

    # Nor after the run has ended, be it the last round of all.
    line[line.index("--rounds") + 1] = "3"
    active_learn.main(line)
    assert "round 3 waits for labels" in capsys.readouterr().out
    skipped += [tuple(row["words"]) for row in questions(labels, 3)]
    answer(labels, 3, lambda row, i: row | {"answer": "skip"})
    active_learn.main(line)
    shutil.rmtree(labels)
    line[line.index("--rounds") + 1] = "4"
    active_learn.main(line)
    assert "round 4 waits for labels" in capsys.readouterr().out
    answer(labels, 4, lambda row, i: row | {"answer": "accept"})
    active_learn.main(line)
    assert [about["round"] for about in rounds_of(repo).values()] == [0, 2, 4]
    own = asked(repo, [*rounds_of(repo)][-1])
    assert {q.words for q in own if q.tags is None} == {*skipped}
    assert not (repo / ".checkpoints").exists()


def test_without_any_label_the_first_answers_say_which_types_there_are(encoder, tmp_path, capsys):
    corpus, labels = tmp_path / "corpus", tmp_path / "labels"
    corpus.mkdir()
    text = "Kiwi grows\n\nThe tui sings\n\nA kea flies\n\nno bird here\n"
    (corpus / "unlabelled.txt").write_text(text.replace(" ", "\n"))
    line = [*small(corpus, encoder), "--repo", tmp_path / "m", "--data", "gold", "--keep", "last"]
    line += ["--oracle", labels, "--expert", 3, "--rounds", 1, "--add", 1]
    active_learn.main([str(f) for f in line])

    def label(row, i):
        birds = [w for w in row["words"] if w.lower() in ("kiwi", "tui", "kea")]
        start = row["text"].index(birds[0]) if birds else 0
        entities = [{"start": start, "end": start + len(b), "type": "BIRD"} for b in birds]
        return row | {"answer": "accept", "entities": entities}

    answer(labels, 0, label)
    line = [str(f) for f in line]
    assert "--resume to continue it" in refused(active_learn, capsys, *line)
    for changed in (["--expert", "2"], ["--precision", "auto"]):
        message = refused(active_learn, capsys, *line, "--resume", *changed)
        assert "an unfinished run with other flags is in " in message
    active_learn.main([*line, "--resume"])
    assert "round 1 waits for labels of 1 sentence" in capsys.readouterr().out
    (name,) = rounds_of(tmp_path / "m")
    config = json.loads((tmp_path / "m" / name / "config.json").read_text())
    assert "B-BIRD" in config["id2label"].values()
    answer(labels, 1, lambda row, i: row | {"answer": "skip"})
    active_learn.main([*line, "--resume"])
    assert "round 1: all 1 were skipped, nothing to learn from" in capsys.readouterr().out
    assert [*rounds_of(tmp_path / "m")] == [name]


def test_people_finish_a_round_that_an_earlier_version_asked(tmp_path, capsys):
    corpus, labels, repo = (tmp_path / name for name in ("corpus", "labels", "m"))
    corpus.mkdir()
    (corpus / "unlabelled.txt").write_text("Kiwi\ngrows\n\nTui\nsings\n\nno\nbird\n")
    line = "--encoder tiny --data gold --keep last --expert 2 --add 1 --rounds 1 --epochs 1"
    line = [*line.split(), "--corpus", str(corpus), "--oracle", str(labels), "--repo", str(repo)]
    line += ["--word-shapes", "no"]  # as that version did
    active_learn.main(line)
    (folder,) = (repo / ".checkpoints").iterdir()
    earlier = folder.rename(folder.with_name("active-2feb0fcd"))  # of the plan with --from-last
    query = json.loads((earlier / "round_0.json").read_text()) | {"watched": [["O", "O"]]}
    del query["sha256"]
    (earlier / "round_0.json").write_text(json.dumps(query))
    answer(labels, 0, lambda row, i: row | {"answer": "accept"})
    capsys.readouterr()
    active_learn.main([*line, "--resume"])
    assert "round 1 waits for labels of 1 sentence" in capsys.readouterr().out
    assert [about["round"] for about in rounds_of(repo).values()] == [0]
    assert (repo / ".checkpoints").exists() and not earlier.exists()
