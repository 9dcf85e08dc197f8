"""--ask words: experts label what the model doubts of a sentence; the rest has no label."""

import json
import shutil
import subprocess
from dataclasses import replace

import numpy as np
import pytest
from accelerate import Accelerator
from conftest import TORCHRUN, logged, refused, small, write_conll
from test_active_learning import ROOT, answer, asked, flags, make_plan, questions, rounds_of, same
from test_combine import session as fresh_session

import active_learn
import evaluate
from nerc.active_learning import strategies
from nerc.annotation import agreement, people
from nerc.cli import parse
from nerc.commands import convert
from nerc.data import pool, sources, synthetic
from nerc.data.corpus import Sentence
from nerc.data.pool import Query
from nerc.data.tags import within
from nerc.errors import InputError
from nerc.model.precision import Precision
from nerc.store import query_records
from nerc.store.revisions import Store
from nerc.training import setup
from nerc.training.stages import StageRunner

WORDS = ("Kiwi", "grows", "in", "Te", "Puke", "now")
GOLD = ("O", "O", "O", "B-LOC", "I-LOC", "O")
ASK = ("--ask", "words", "--expert", 8, "--add", "20w", "--rounds", 2)
ASK += ("--strategy", "default", "random-words")


# ------------------------------------------------------------ which words


def test_a_part_of_a_sentence_never_has_a_part_of_an_entity():
    assert within(GOLD, [1]) == ("X", "O", "X", "X", "X", "X")
    assert within(GOLD, [2, 4]) == ("X", "X", "O", "B-LOC", "I-LOC", "X")
    assert within(("B-PER", "B-PER", "I-PER"), [1]) == ("X", "B-PER", "I-PER")
    assert within(GOLD, []) == ("X",) * 6


def test_the_tenth_that_is_least_certain_is_asked_with_its_entities():
    best = np.linspace(0.9, 0.99, 40).reshape(4, 10)  # probabilities of the best tags
    best[0, 3], best[0, 4], best[2, 7], best[3, 0] = 0.4, 0.5, 0.6, 0.55
    rows = [np.log(np.stack([p, (1 - p) / 2, (1 - p) / 2], axis=1)) for p in best]
    tags = [["O"] * 10 for _ in rows]
    tags[2][6:9] = ["B-PER", "I-PER", "I-PER"]
    # Of 40 words, the 4 least certain; that of the third sentence is within three words of a name.
    wanted = [(3, 4), (), (6, 7, 8), (0,)]
    assert strategies.doubted(rows, tags, [set()] * 4) == wanted
    # Experts know two of the four, one of them in the name: of the other 38, the next two follow.
    assert strategies.doubted(rows, tags, [{3}, set(), {7}, set()]) == [(0, 1, 4), (), (), (0,)]
    # They know the end of the name: the rest of it is asked, and of the 39 no other word.
    assert strategies.doubted(rows, tags, [set(), set(), {8}, set()]) == [(3, 4), (), (6, 7), (0,)]


# ------------------------------------------------------------ what was answered


def test_answers_about_a_sentence_are_merged_and_the_last_one_counts():
    first = Query(1, "mnlp", 0.5, "here:1", WORDS, ("O", "X", "X", "B-LOC", "I-LOC", "X"))
    other = Query(1, "mnlp", 0.5, "here:9", ("a", "b"), ("O", "O"))
    second = first._replace(round=2, tags=("X", "O", "X", "X", "X", "O"), origin="there:1")
    (merged, whole) = pool.labelled_sentences([first, other, second])
    assert merged == Sentence(WORDS, ("O", "O", "X", "B-LOC", "I-LOC", "O"), "here:1", 0)
    assert whole == Sentence(("a", "b"), ("O", "O"), "here:9", 0)
    # Six words read twice, and two once; of the six, five are labelled.
    counts = pool.count_acquired([first, other, second, other._replace(words=("c",), tags=None)])
    assert counts == {"sentences": 2, "words": 7, "entities": 1, "words_read": 14}
    # Whoever now says that a name begins at its second word leaves no half of the first answer.
    changed = first._replace(tags=("X", "X", "X", "X", "B-PER", "I-PER"))
    (merged,) = pool.labelled_sentences([first, changed])
    assert merged.tags == ("O", "X", "X", "X", "B-PER", "I-PER")


def test_queries_keep_what_they_asked_and_others_are_written_as_before(tmp_path):
    whole = Query(0, "random", None, "here:1", WORDS, GOLD)
    part = Query(1, "mnlp", 0.5, "here:1", WORDS, within(GOLD, (1, 3)), asked=(1, 3))
    text = query_records.to_text([whole, part])
    assert query_records.from_text(text, tmp_path) == [whole, part]
    first, second = map(json.loads, text.splitlines())
    assert "asked" not in first and second["asked"] == [1, 3]


@pytest.mark.parametrize(
    "change, fault",
    [
        ({"asked": [3, 1]}, "asked is [3, 1], wanted numbers of words, rising"),
        ({"asked": [1, 1]}, "wanted numbers of words, rising"),
        ({"asked": [-1]}, "wanted numbers of words, rising"),
        ({"asked": [6]}, "has 6 words, and asks for that with number 6"),
        ({"asked": [0]}, "asks for 'Kiwi', which has no tag"),
        ({"tags": ["X", "X", "X", "X", "I-LOC", "X"]}, "wanted a list of IOB2 tags, X for words"),
    ],
)
def test_a_damaged_query_for_words_is_refused(tmp_path, change, fault):
    row = Query(1, "mnlp", 0.5, "here:1", WORDS, within(GOLD, (1, 3)), asked=(1, 3))._asdict()
    with pytest.raises(InputError) as error:
        query_records.from_text(json.dumps(row | change), tmp_path)
    assert fault in str(error.value)


# ------------------------------------------------------------ rounds


@pytest.fixture(scope="module")
def store(folder, encoder, tmp_path_factory):
    """Two rounds of two strategies, which ask for 20 words after eight sentences."""
    repo = tmp_path_factory.mktemp("words") / "models"
    active_learn.main(flags(folder, encoder, repo, *ASK))
    return repo


def test_experts_label_the_words_in_doubt_and_their_entities_alone(store, folder):
    gold = {s.words: s.tags for s in sources.load(str(folder), "train")}
    assert len(rounds_of(store)) == 5
    for name, about in rounds_of(store).items():
        labelled: dict[tuple, set[int]] = {}
        for query in asked(store, name):
            numbers = range(len(query.words)) if query.asked is None else query.asked
            assert query.tags == within(gold[query.words], numbers)
            here = {i for i, tag in enumerate(query.tags) if tag != "X"}
            before = labelled.setdefault(query.words, set())
            assert not before & {*numbers}  # no word is asked for twice
            assert query.round or len(here) == len(query.words)
            before |= here
        own = [q for q in asked(store, name) if q.round == about["round"]]
        sizes = [len(q.words if q.asked is None else q.asked) for q in own]
        assert about["sentences"] == len(labelled)
        assert about["words"] == sum(map(len, labelled.values()))
        assert about["words_read"] == sum(len(q.words) for q in asked(store, name))
        if about["round"]:
            assert about["words_read"] > about["words"]
            if about["strategy"] != "random-words":
                assert abs(sum(sizes) - 20) <= max(sizes) / 2
            assert about["plan"]["ask"] == "words"


def test_words_without_a_label_are_read_and_not_learnt(store, folder, capsys):
    name = next(n for n, about in rounds_of(store).items() if about["round"] == 2)
    about, run = rounds_of(store)[name], json.loads((store / name / "run.json").read_text())
    acquired = pool.labelled_sentences(asked(store, name))
    num_words = sum(len(sentence.words) for sentence in acquired)
    said = (store / name / "log.txt").read_text()
    assert f"experts labelled {about['words']} of the {num_words} words of their sen" in said
    known = {sentence.words for sentence in acquired}
    weak = [s for s in sources.load(str(folder), "llm") if s.words not in known]
    assert run["data"]["train"]["sentences"] == len(acquired) + len(weak)
    evaluate.main(["--repo", str(store), "--revision", name, "--details"])
    out = capsys.readouterr().out
    assert "entity in training: no" in out and "have changed" not in out


def test_a_sentence_is_asked_for_again_where_other_words_are_in_doubt(folder, encoder, tmp_path):
    more = ("--ask", "words", "--expert", 5, "--add", "50%", "--rounds", 3, "--data", "gold")
    line = [
        f for f in flags(folder, encoder, tmp_path, *more) if f not in ("--combine", "pretrain")
    ]
    active_learn.main(line)
    own = asked(tmp_path, [*rounds_of(tmp_path)][-1])
    assert len({q.words for q in own}) < len(own)
    for sentence in pool.labelled_sentences(own):
        answers = [q for q in own if q.words == sentence.words]
        assert len({q.round for q in answers}) == len(answers)


def test_resume_asks_for_the_same_words(store, folder, encoder, tmp_path, capsys):
    shorter = [*ASK]
    shorter[shorter.index("--rounds") + 1] = 1
    active_learn.main(flags(folder, encoder, tmp_path / "m", *shorter))
    message = refused(
        active_learn, capsys, *flags(folder, encoder, tmp_path / "m", *ASK[2:], "--resume")
    )
    assert "is of another run: ask was words, is sentences; give what it was" in message
    active_learn.main(flags(folder, encoder, tmp_path / "m", *ASK, "--resume"))
    assert same(store, tmp_path / "m")
    # Runs of earlier versions, which had no such flag, go on as they were.
    assert "ask" not in make_plan(flags(folder, encoder, tmp_path / "m", *ASK[2:])).description


@pytest.mark.slow
def test_two_processes_ask_for_the_words_that_one_asks_for(store, folder, encoder, tmp_path):
    line = flags(folder, encoder, tmp_path / "m", *ASK)
    command = [*TORCHRUN, "2", "active_learn.py", *line]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    for name in rounds_of(store):
        a, b = ([q._replace(score=None) for q in asked(r, name)] for r in (store, tmp_path / "m"))
        assert a == b


def test_tools_that_cannot_show_the_words_are_refused(folder, encoder, tmp_path, capsys):
    line = flags(folder, encoder, tmp_path / "m", "--ask", "words", "--oracle", tmp_path / "a")
    message = refused(active_learn, capsys, *line, "--exchange", "label-studio")
    assert "--exchange must be jsonl or conll with --ask words" in message


# ------------------------------------------------------------ people

PART = Query(3, "mnlp", 0.5, "here:1", WORDS, None, within(GOLD, (1, 3)), asked=(1, 3, 4))
OTHER = Query(3, "mnlp", 0.5, "here:2", ("Tui", "sings"), None, ("B-PER", "X"), asked=(0,))
TYPES = frozenset({"PER", "LOC"})


def ask(path, *names: str) -> people.Folder:
    """Ask for words of two sentences in round 3."""
    folder = people.Folder(path, names or ("jsonl", "conll"), TYPES)
    with pytest.raises(people.WaitingForAnswers, match="waits for labels of 2 sentences"):
        folder.ask([PART, OTHER], 3)
    return folder


def test_people_see_which_words_are_asked(tmp_path):
    ask(tmp_path)
    rows = questions(tmp_path, 3)
    assert [row["entities"][0]["text"] for row in rows] == ["Te Puke", "Tui"]
    assert [row["asked"] for row in rows] == [
        [{"text": "grows", "start": 5, "end": 10}, {"text": "Te Puke", "start": 14, "end": 21}],
        [{"text": "Tui", "start": 0, "end": 3}],
    ]
    text = (tmp_path / "round_3.conll").read_text()
    lines = "Kiwi X\ngrows O\nin X\nTe B-LOC\nPuke I-LOC\nnow X\n\nTui B-PER\nsings X\n\n"
    assert text == f"# types: PER LOC\n{lines}"
    (tmp_path / "plain").mkdir()
    people.write_questions(
        people.Folder(tmp_path / "plain", ["conll"]), "x", [PART._replace(proposed=None)]
    )
    text = (tmp_path / "plain/x.conll").read_text()
    assert text == "Kiwi X\ngrows O\nin X\nTe O\nPuke O\nnow X\n\n"


@pytest.mark.parametrize("kind", ["jsonl", "conll"])
def test_what_is_proposed_for_words_can_be_accepted(tmp_path, kind):
    folder = ask(tmp_path, kind)
    if kind == "jsonl":
        answer(tmp_path, 3, lambda row, _: row | {"answer": "accept"})
    else:
        shutil.copy(tmp_path / "round_3.conll", tmp_path / "round_3.answers.conll")
    found = folder.ask([PART, OTHER], 3)
    assert found == [q._replace(tags=q.proposed) for q in (PART, OTHER)]


def test_an_entity_that_people_add_counts_and_other_words_do_not(tmp_path):
    folder = ask(tmp_path)
    write_conll(
        tmp_path / "round_3.answers.conll",
        [(WORDS, ("B-PER", "O", "O", "B-LOC", "O", "X"), 0), (OTHER.words, ("X", "X"), 0)],
    )
    found = folder.ask([PART, OTHER], 3)
    assert [q.tags for q in found] == [("B-PER", "O", "X", "B-LOC", "O", "X"), None]


def test_a_word_that_was_asked_needs_a_tag(tmp_path):
    folder = ask(tmp_path)
    write_conll(
        tmp_path / "round_3.answers.conll",
        [(WORDS, ("X", "O", "X", "B-LOC", "X", "X"), 0), (OTHER.words, ("X", "X"), 0)],
    )
    with logged() as said, pytest.raises(InputError, match="1 fault, named above"):
        folder.ask([PART, OTHER], 3)
    assert said[0].endswith("answers.conll:3: has no label of the word 'Puke', which is asked for")


def test_questions_for_other_words_are_not_taken_for_this_ones(tmp_path):
    folder = ask(tmp_path)
    with pytest.raises(InputError, match="does not ask what this run asks"):
        folder.ask([PART._replace(asked=(1,), proposed=None), OTHER], 3)


def test_annotators_who_differ_on_words_are_asked_again(tmp_path):
    folder = replace(ask(tmp_path), annotators=2)
    given = {"anna": ("X", "O", "X", "B-LOC", "I-LOC", "X"), "ben": ("X", "O", "X", "O", "O", "X")}
    for name, labels in given.items():
        answers = [(WORDS, labels, 0), (OTHER.words, ("B-PER", "X"), 0)]
        write_conll(tmp_path / f"round_3.answers.{name}.conll", answers)
    with pytest.raises(people.WaitingForAnswers, match="adjudication of round 3 waits"):
        folder.ask([PART, OTHER], 3)
    shutil.copy(
        tmp_path / "round_3.adjudication.conll", tmp_path / "round_3.adjudication.answers.conll"
    )
    assert [q.tags for q in folder.ask([PART, OTHER], 3)] == [given["anna"], ("B-PER", "X")]
    # Of the four words that both tagged, they differ on two; the other words count for nothing.
    answers = {n: {WORDS: t, OTHER.words: ("B-PER", "X")} for n, t in given.items()}
    assert agreement.agreement(answers).words == 4
    decided, undecided = agreement.majority({"a": {WORDS: given["anna"]}})
    assert decided == {WORDS: given["anna"]} and not undecided


@pytest.mark.parametrize("kind", ["jsonl", "conll"])
def test_labels_of_some_words_are_no_corpus(tmp_path, capsys, kind):
    ask(tmp_path)
    path, out = tmp_path / f"round_3.{kind}", tmp_path / "train.txt"
    message = refused(convert, capsys, str(path), str(out), "--from", kind)
    wanted = "has labels for some words alone (asked)" if kind == "jsonl" else "has X at some words"
    assert wanted in message and not out.exists()


def test_people_label_the_words_in_doubt(folder, encoder, tmp_path, capsys):
    corpus, labels, repo = tmp_path / "corpus", tmp_path / "labels", tmp_path / "models"
    corpus.mkdir()
    for name in ("valid.txt", "llm.txt"):
        shutil.copy(folder / name, corpus / name)
    write_conll(corpus / "unlabelled.txt", synthetic.generate("train", 30))
    more = ("--ask", "words", "--expert", 6, "--add", 4, "--rounds", 1, "--oracle", labels)
    line = flags(corpus, encoder, repo, *more)
    active_learn.main(line)
    assert not any("asked" in row for row in questions(labels, 0))
    answer(labels, 0, lambda row, _: row | {"answer": "accept"})
    active_learn.main([*line, "--resume"])
    assert "round 1 waits for labels of 4 sentences" in capsys.readouterr().out
    assert any("asked" in row for row in questions(labels, 1))
    answer(labels, 1, lambda row, _: row | {"answer": "accept"})
    active_learn.main([*line, "--resume"])
    own = [q for q in asked(repo, [*rounds_of(repo)][-1]) if q.round == 1]
    assert len(own) == 4 and all(q.tags == q.proposed for q in own)
    assert all((q.asked is None) == ("X" not in q.tags) for q in own)


# ------------------------------------------------------------ what is learnt


def test_the_student_learns_experts_words_from_them_and_the_others_from_teachers(
    folder, encoder, tmp_path
):
    store_flags = ["--data", "mixed", "--precision", "float32", "--repo", str(tmp_path)]
    line = [*small(folder, encoder), *store_flags]
    _, data, network, training, keep, _, _ = parse(line, "", "", *active_learn.CONFIGS)
    opened = pool.open_pool(str(folder), "gold", with_weak=True)
    queries = [Query(0, "random", None, s.location, s.words, s.tags) for s in opened.sentences[:8]]
    for i in (6, 7):
        numbers = (0, len(queries[i].words) - 1)
        queries[i] = queries[i]._replace(tags=within(queries[i].tags, numbers), asked=numbers)
    precision = Precision("float32", Accelerator(cpu=True))
    run = setup.prepare(
        *(data, network, training, Store(keep.repo), precision),
        acquired=opened.acquired_labels(queries),
    )
    training_set = run.training_set
    assert training_set.partly_expert.tolist() == [6, 7]
    encoded, session = training_set.encoded, fresh_session()
    runner = StageRunner(run, session, None, (10**9, float("inf")))
    student, _ = run.method.prepare(training_set, runner, run.settings)
    words = encoded.words_of(training_set.expert)
    for word, tag in zip(words, [tag for q in queries for tag in q.tags], strict=True):
        target = student.targets[word]
        assert target.sum() == pytest.approx(1, abs=1e-5)
        if tag != "X":
            assert target[run.model.config.inventory.index(tag)] == 1
        else:
            assert 0 < target.max() < 1
    others = encoded.words_of(training_set.without_expert)
    assert np.allclose(student.targets[others].sum(axis=1), 1, atol=1e-5)
    assert (student.targets[others].max(axis=1) < 1).all()
    # Teachers learn nothing from these words.
    assert encoded.num_labelled()[:8].tolist() == [sum(t != "X" for t in q.tags) for q in queries]
