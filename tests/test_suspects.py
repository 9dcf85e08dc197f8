"""Labels that are probably wrong: how places are scored and ranked, by which models, the files."""

import csv
import json
import math
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import files, refused

from nerc.annotation import cross_fitting, people, suspects
from nerc.annotation.suspects import Place
from nerc.commands import suspects as command
from nerc.config import DataConfig, ModelConfig, TrainConfig
from nerc.data import sources, tags
from nerc.data.corpus import Corpus, Sentence
from nerc.data.pool import Query
from nerc.data.tags import Entity
from nerc.errors import InputError

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))

WORD_TAGS = ("O", "B-PER", "I-PER", "B-LOC", "I-LOC")
ALONE = ("Ann", "2", "m-n", "x.y", "EU")  # no two have the same form


def corpus(*labelled, words=ALONE) -> Corpus:
    """A sentence of words for each text of their tags, every one a document of its own."""
    rows = (tuple(text.split()) for text in labelled)
    return Corpus.of(Sentence(words, row, f"here:{i}", i) for i, row in enumerate(rows))


def predicted(labels: str, given: str, probability: float) -> np.ndarray:
    """Log-probabilities by which labels are nearly certain, and the given ones have probability."""
    row = np.full((len(labels.split()), len(WORD_TAGS)), 1e-9)
    for t, (tag, other) in enumerate(zip(labels.split(), given.split(), strict=True)):
        row[t, WORD_TAGS.index(other)] = probability
        row[t, WORD_TAGS.index(tag)] = 0.99
    return np.log(row)


# Without other words of their form, the score is -5.5 - log(0.04 + 0.01) and what is of the kind.
@pytest.mark.parametrize(
    "given, labels, kind, score",
    [
        ("O O O O O", "B-PER I-PER O O O", "missed", -5.5 + 2.9957 + 1.5),
        ("O O O B-LOC I-LOC", "O O O O O", "spurious", -5.5 + 2.9957 - 1.0),
        ("B-LOC I-LOC O O O", "B-PER I-PER O O O", "wrong type", -5.5 + 2.9957),
        ("O B-PER I-PER O O", "B-PER I-PER I-PER O O", "wrong boundary", -5.5 + 2.9957),
        ("O B-PER I-PER I-PER O", "O B-PER I-PER O O", "wrong boundary", -5.5 + 2.9957),
    ],
    ids=["missing", "spurious", "type", "cut", "grown"],
)
def test_the_score_of_each_kind_of_error_is_that_worked_out_by_hand(given, labels, kind, score):
    (found,) = suspects.find(corpus(given), [predicted(labels, given, 0.04)], WORD_TAGS)
    assert found.place.kind == kind
    assert list(found.place.given) == tags.entities(given.split())
    assert list(found.place.suggested) == tags.entities(labels.split())
    assert found.score == pytest.approx(score, abs=1e-4)


def test_what_the_same_words_are_elsewhere_counts():
    # Types are O, PER, LOC. Of the word's four other places, all are LOC, so its share is
    # (4 + 2/3) / 6 = 7/9 by form, (4 + 4 * 7/9) / 8 = 8/9 by form in context, (4 + 16/9) / 6 =
    # 26/27 by word; that of PER is (2/3) / 6 = 1/9, (4/9) / 8 = 1/18, (1/9) / 6 = 1/54.
    given = ["B-PER", *["B-LOC"] * 4]
    rows = [predicted("B-LOC", tag, 0.04) for tag in given]
    (found,) = suspects.find(corpus(*given, words=("Kiwi",)), rows, WORD_TAGS)
    assert (found.sentence, found.place.kind) == (0, "wrong type")
    assert found.score == pytest.approx(-5.5 - math.log(0.05) + 0.7 * math.log(52))


def test_the_word_whose_change_is_least_likely_decides():
    # The first LOC may grow by "of" and Kiwi. Kiwi is LOC in both other places, "of" is O in both:
    # its share of LOC is (2/3) / 4 = 1/6, (4/6) / 6 = 1/9, (2/9) / 4 = 1/18; that of O is
    # (2 + 2/3) / 4 = 2/3, (2 + 8/3) / 6 = 7/9, (2 + 14/9) / 4 = 8/9.
    given = ("B-LOC O O", "B-LOC O B-LOC", "B-LOC O B-LOC")
    paths = ("B-LOC I-LOC I-LOC", *given[1:])
    rows = [predicted(p, g, 0.04) for p, g in zip(paths, given, strict=True)]
    (found,) = suspects.find(corpus(*given, words=("Bay", "of", "Kiwi")), rows, WORD_TAGS)
    assert found.score == pytest.approx(-5.5 - math.log(0.05) + 0.7 * math.log(1 / 16))


def test_a_model_that_doubts_the_label_more_makes_it_more_suspicious():
    given = "B-PER O O O O"
    scores = []
    for probability in (0.3, 0.1, 0.01):
        row = predicted("B-LOC O O O O", given, probability)
        scores.append(suspects.find(corpus(given), [row], WORD_TAGS)[0].score)
    assert scores == sorted(scores) and len(set(scores)) == 3


def test_entities_that_overlap_are_one_place_and_equal_ones_none():
    given = [Entity("PER", 0, 2), Entity("LOC", 2, 4), Entity("ORG", 5, 6), Entity("PER", 8, 9)]
    suggested = [Entity("PER", 1, 3), Entity("ORG", 5, 6), Entity("LOC", 7, 8)]
    assert suspects.places(given, suggested) == [
        Place(0, 4, (given[0], given[1]), (suggested[0],)),
        Place(7, 8, (), (suggested[2],)),
        Place(8, 9, (given[3],), ()),
    ]
    assert suspects.places(given, given) == []


def test_words_without_a_label_are_never_suspects():
    rows = [predicted("B-PER I-PER O O O", "O O O O O", 0.04)]
    assert suspects.find(corpus("X X O O O"), rows, WORD_TAGS) == []
    assert len(suspects.find(corpus("O O X O O"), rows, WORD_TAGS)) == 1


def test_the_ranking_finds_more_planted_errors_than_cleanlab():
    pytest.importorskip("cleanlab", reason="cleanlab is not installed")
    import suspects as benchmark

    clean = sources.load("sample:2400", "validation")
    corrupted, planted = benchmark.plant(clean, 0)
    assert {change.kind for change in planted} == set(benchmark.CORRUPTIONS)
    rows = [doubtful(sentence, i) for i, sentence in enumerate(clean)]
    tags_of_types = tags.inventory(tags.CONLL_TYPES)[: rows[0].shape[1]]
    precision = {
        name: benchmark.judge(rank(corrupted, rows, tags_of_types), planted, len(planted))[0]
        for name, rank in benchmark.RANKINGS.items()
    }
    assert precision.pop("nerc") > max(precision.values()) + 0.1


def doubtful(sentence: Sentence, seed: int) -> np.ndarray:
    """Log-probabilities of a model that is wrong on a tenth of the entities, and very sure."""
    random = np.random.default_rng(seed)
    word_tags = tags.inventory(tags.CONLL_TYPES)[:9]
    labels = list(sentence.tags)
    for entity in tags.entities(sentence.tags):
        if random.random() < 0.1:
            other = str(random.choice([*tags.CONLL_TYPES, "O"]))
            size = entity.end - entity.start
            new = ["O"] * size if other == "O" else tags.entity_tags(other, size)
            labels[entity.start : entity.end] = new
    logits = random.normal(size=(len(labels), len(word_tags)))
    logits[range(len(labels)), [word_tags.index(tag) for tag in labels]] += 8
    return logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))


def test_what_is_suggested_is_the_best_valid_sequence():
    # Word by word, O I-LOC is best, which begins with nothing: 0.6 * 0.35 for O O is more than
    # 0.3 * 0.5 for B-LOC I-LOC.
    row = np.log([[0.6, 0.05, 1e-9, 0.3, 1e-9], [0.35, 0.05, 1e-9, 0.1, 0.5]])
    assert suspects.find(corpus("O O", words=("a", "B")), [row], WORD_TAGS) == []
    (found,) = suspects.find(corpus("B-PER O", words=("a", "B")), [row], WORD_TAGS)
    assert found.place == Place(0, 1, (Entity("PER", 0, 1),), ())


# ------------------------------------------------------------ cross-fitting


def test_folds_keep_documents_together_and_share_the_words_evenly(folder):
    read = sources.load(str(folder), "train")
    which = cross_fitting.split(read, 3, seed=0)
    of_document: dict[int, set[int]] = {}
    for sentence, fold in zip(read, which.tolist(), strict=True):
        of_document.setdefault(sentence.document, set()).add(fold)
    assert len(of_document) >= 3 and all(len(folds) == 1 for folds in of_document.values())
    words = np.bincount(which, [len(sentence.words) for sentence in read])
    longest = max(sum(len(s.words) for s in read if s.document == d) for d in of_document)
    assert words.max() - words.min() <= longest
    assert (cross_fitting.split(read, 3, seed=1) != which).any()


def test_without_documents_copies_of_a_sentence_are_in_one_fold():
    words = [("a", "b"), ("c",), ("a", "b"), ("d", "e", "f"), ("c",)]
    read = Corpus.of(Sentence(w, ("O",) * len(w), f"here:{i}", 0) for i, w in enumerate(words))
    which = cross_fitting.split(read, 3, seed=0)
    assert which[0] == which[2] and which[1] == which[4] and len(set(which.tolist())) == 3
    with pytest.raises(InputError, match="--folds 4: there are only 3 sentences"):
        cross_fitting.split(read, 4, seed=0)


def test_no_model_predicts_a_sentence_that_it_learnt_from(folder, encoder):
    """The labels of a fold change what is predicted of the others, and not of the fold itself."""
    read = sources.load(str(folder), "train")
    fold = cross_fitting.split(read, 2, seed=0)
    no_entities = (
        s._replace(tags=("O",) * len(s.words)) if f == 0 else s
        for s, f in zip(read, fold, strict=True)
    )
    rows = [fit(read, encoder), fit(Corpus.of(no_entities), encoder)]
    same = [np.array_equal(a, b) for a, b in zip(*rows, strict=True)]
    assert [same[i] for i in np.flatnonzero(fold == 0)] == [True] * (fold == 0).sum()
    assert not any(same[i] for i in np.flatnonzero(fold == 1))


def fit(read: Corpus, encoder: Path) -> list[np.ndarray]:
    network = ModelConfig(encoder=str(encoder), lstm_hidden_size=8)
    training = TrainConfig(keep="last", epochs=1, num_threads=1, precision="float32")
    configs = DataConfig(), network, training
    rows, word_tags = cross_fitting.fit(read, sources.Sources(train=read), configs, folds=2)
    assert [row.shape for row in rows] == [(len(s.words), len(word_tags)) for s in read]
    assert all(np.allclose(np.exp(row).sum(axis=1), 1, atol=1e-3) for row in rows)
    return rows


# ------------------------------------------------------------ the command


def flags(folder: Path, encoder: Path, output: Path) -> list[str]:
    text = f"--corpus {folder} --encoder {encoder} --epochs 1 --folds 2 --num-threads 1"
    return [*text.split(), "--precision", "float32", "--top", "12", "--output", str(output)]


@pytest.fixture(scope="module", params=["gold", "llm"])
def written(request, folder, encoder, tmp_path_factory) -> tuple[Path, Corpus]:
    """What the command wrote, and the labels that it checked."""
    output = tmp_path_factory.mktemp("suspects") / request.param
    command.main([*flags(folder, encoder, output), "--data", request.param])
    split = {"gold": "train", "llm": "llm"}[request.param]
    given = [s._replace(tags=tuple(tags.to_iob2(s.tags))) for s in sources.load(str(folder), split)]
    return output, Corpus.of(given)


def table(output: Path) -> list[dict[str, str]]:
    with (output / "suspects.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def entities(row: dict[str, str], part: str) -> list[Entity]:
    """The entities in the columns given and given_words, or suggested and suggested_words."""
    types, spans = (row[name].split("; ") for name in (part, f"{part}_words"))
    if types == [""]:
        return []
    bounds = (map(int, span.split("-")) for span in spans)
    return [Entity(name, *span) for name, span in zip(types, bounds, strict=True)]


def test_the_table_ranks_every_suspect_with_its_place_and_both_labels(written):
    output, given = written
    rows, by_location = table(output), {s.location: s for s in given}
    assert [row["rank"] for row in rows] == [str(i + 1) for i in range(len(rows))]
    scores = [float(row["score"]) for row in rows]
    assert len(rows) > 12 and scores == sorted(scores, reverse=True)
    for row in rows:
        sentence = by_location[row["location"]]
        both = entities(row, "given") + entities(row, "suggested")
        start, end = min(e.start for e in both), max(e.end for e in both)
        assert row["words"] == " ".join(sentence.words[start:end])
        assert row["sentence"] == " ".join(sentence.words)
        assert set(entities(row, "given")) <= set(tags.entities(sentence.tags))
        assert entities(row, "given") != entities(row, "suggested")


def test_the_questions_can_be_accepted_as_they_are_and_keep_the_given_labels(written, tmp_path):
    output, given = written
    lines = [json.loads(line) for line in (output / "questions.jsonl").read_text().splitlines()]
    first = list(dict.fromkeys(row["location"] for row in table(output)[:12]))
    assert [line["origin"] for line in lines] == first
    assert [line["answer"] for line in lines] == [None] * len(lines)
    answered = "".join(json.dumps(line | {"answer": "accept"}) + "\n" for line in lines)
    (tmp_path / "questions.answers.jsonl").write_text(answered)
    by_location = {sentence.location: sentence for sentence in given}
    asked = [Query(0, "", 0.0, at, by_location[at].words, None) for at in first]
    answers = people.Round(people.Folder(tmp_path, ["jsonl"]), "questions", asked).read()[""]
    assert len(answers) == len(asked)
    for query in asked:
        given_tags = by_location[query.origin].tags
        assert tags.entities(answers[query.words].tags) == tags.entities(given_tags)


def test_the_page_shows_the_first_suspects_beside_their_suggestions(written, browser):
    output, given = written
    browser.get((output / "suspects.html").as_uri())
    rows = table(output)[:12]
    where = browser.find_elements("css selector", ".where")
    first = list(dict.fromkeys(row["location"] for row in rows))
    assert [w.text for w in where] == [f"sentence {i}, {at}" for i, at in enumerate(first, 1)]
    names = browser.find_elements("css selector", ".sentence:first-child .name b")
    assert [name.text for name in names] == ["suggested", "given labels"]
    kinds = browser.find_elements("css selector", ".line:not(.gold) .entity")
    shown = [kind for e in kinds if (kind := e.get_attribute("data-kind")) != "correct"]
    assert len(shown) >= len(rows)
    assert browser.get_log("browser") == []


@pytest.fixture
def browser(chromium):
    return chromium


def test_a_text_that_looks_like_code_stays_text(tmp_path, folder, encoder):
    from nerc.annotation import suspect_files

    words = ("</script><script>alert(1)</script>", "=1+1", "Te", "Puke")
    given = corpus("O O O O", words=words)
    rows = [predicted("B-PER O B-LOC I-LOC", "O O O O", 0.04)]
    found = suspects.find(given, rows, WORD_TAGS)
    suspect_files.write(tmp_path, given, found, rows, WORD_TAGS, 2, ["jsonl"])
    assert "<script>alert" not in (tmp_path / "suspects.html").read_text()
    assert {row["words"] for row in table(tmp_path)} == {words[0], "Te Puke"}
    assert files(tmp_path) == {"suspects.csv", "suspects.html", "questions.jsonl"}


def test_copies_of_a_sentence_are_asked_once(tmp_path):
    from nerc.annotation import suspect_files

    given = corpus("O O O O", "O O B-LOC I-LOC", words=("a", "in", "Te", "Puke"))
    rows = [predicted("B-PER O B-LOC I-LOC", "O O O O", 0.04)] * 2
    found = suspects.find(given, rows, WORD_TAGS)
    assert {suspect.sentence for suspect in found} == {0, 1}
    suspect_files.write(tmp_path, given, found, rows, WORD_TAGS, 9, ["jsonl"])
    (line,) = (tmp_path / "questions.jsonl").read_text().splitlines()
    assert json.loads(line)["text"] == "a in Te Puke"


@pytest.mark.parametrize(
    "change, wanted",
    [
        ("--folds 1", "--folds must be 2 to 100, not 1"),
        ("--folds 99", "--folds 99: there are only"),
        ("--top 0", "--top must be 1 or more, not 0"),
        ("--epochs 0", "--epochs must be 1 or more, not 0"),
        ("--corpus ./nowhere", "no such folder"),
        ("--output {file}", "is a file, wanted a folder"),
    ],
)
def test_bad_input_ends_in_one_line(change, wanted, folder, encoder, tmp_path, capsys):
    (tmp_path / "file").write_text("")
    changed = change.format(file=tmp_path / "file").split()
    line = refused(command, capsys, *flags(folder, encoder, tmp_path / "new"), *changed)
    assert wanted in line
    assert files(tmp_path) == {"file"}


def test_an_output_folder_is_asked_for(capsys):
    assert "--output must be a folder to write to" in refused(command, capsys)
