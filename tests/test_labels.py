"""The draw of expert sentences, what they replace, and the repairs of weak labels."""

import sys
from pathlib import Path

import pytest

from nerc.config import DataConfig
from nerc.data import noise, sources, tags
from nerc.data.corpus import Corpus
from nerc.data.labels import (
    AcquiredLabels,
    Share,
    choose_repairs,
    mix,
    repair,
    soft_targets,
    word_shape,
)
from nerc.data.sources import load_sources
from nerc.errors import InputError
from nerc.evaluation.label_audit import agreement_by_type, pair_labels, read_experts

sys.path.insert(0, str(Path(__file__).parents[1] / "experiments"))


def write(folder, **files) -> str:
    for name, text in files.items():
        (folder / f"{name}.txt").write_text(text)
    return str(folder)


def corpus(config: DataConfig, seed: int = 0, recipe: str = "strong", acquired=None):
    config = config.resolved(recipe)
    return mix(load_sources(config), config, seed, acquired)


@pytest.fixture
def three(tmp_path):
    """Three expert sentences; a and b have LLM labels, a twice."""
    train = "a B-PER\n\nb B-PER\n\nc B-PER\n"
    return write(tmp_path, train=train, llm="a B-LOC\n\nb B-LOC\n\na B-ORG\n")


def test_expert_labels_replace_every_weak_label_of_their_sentences(three):
    config = DataConfig(data="mixed", corpus=three, combine="pretrain")
    train = sources.load(three, "train")
    mixed = corpus(config, acquired=AcquiredLabels(train, train))
    assert [s.tags for s in mixed.corpus] == [("B-PER",)] * 3
    assert (mixed.num_expert, mixed.num_weak) == (3, 0)


def test_concat_keeps_both_labels_of_a_sentence(three):
    config = DataConfig(data="mixed", expert="3", corpus=three)
    found = corpus(config, recipe="paper")
    assert [s.tags[0] for s in found.corpus] == ["B-PER"] * 3 + ["B-LOC", "B-LOC", "B-ORG"]
    assert [len(places) for places in found.places()] == [3, 3, 0]


def test_sentences_that_no_expert_labelled_keep_the_llm_label(three):
    for seed in range(5):
        config = DataConfig(data="mixed", expert="1", corpus=three, combine="pretrain")
        expert, *weak = corpus(config, seed).corpus
        wanted = [s for s in (("a",), ("b",), ("a",)) if s != expert.words]
        assert expert.tags == ("B-PER",) and [s.words for s in weak] == wanted


def test_unused_sentences_and_types_of_weak_labels_alone_are_reported(three):
    found = corpus(DataConfig(data="mixed", expert="2", corpus=three, combine="concat"))
    assert "2 of 3 expert sentences are used; --expert 100% uses all" in found.corpus.notes
    assert any("(LOC, ORG); --repair inventory" in note for note in found.corpus.notes)
    flags = {"combine": "concat", "repair": ("inventory",)}
    found = corpus(DataConfig(data="mixed", expert="3", corpus=three, **flags))
    assert not any("are used" in note for note in found.corpus.notes)
    assert not any("--repair inventory leaves" in note for note in found.corpus.notes)


def test_the_types_that_experts_know_are_those_of_the_draw(tmp_path):
    text = "x B-DATE\n\na B-PER\n"
    folder = write(tmp_path, train=text, llm="b B-DATE\n\nc B-PER\n")
    for seed in range(4):
        flags = {"combine": "pretrain", "repair": ("inventory",)}
        expert, *weak = corpus(DataConfig("mixed", expert="1", corpus=folder, **flags), seed).corpus
        known = expert.tags[0]
        assert [s.tags[0] for s in weak] == [t if t == known else "X" for t in ("B-DATE", "B-PER")]


def test_the_experts_are_drawn_by_seed_and_by_share(folder):
    def draw(expert, seed, labels="gold"):
        config = DataConfig(data=labels, expert=expert, corpus=str(folder))
        return [s.location for s in corpus(config, seed).corpus]

    assert draw("10", 1) == draw("10", 1) != draw("10", 2)
    assert len(set(draw("10", 1))) == 10
    assert len(draw("12%", 1)) == 8  # of 70
    assert len(draw("100%", 1)) == len(draw(None, 1)) == 70
    assert DataConfig(data="mixed").expert_amount == "12%"
    with pytest.raises(InputError, match="only 70 expert sentences"):
        draw("71", 1)


def test_unlabelled_sentences_are_those_without_labels_in_the_run(tmp_path):
    folder = write(
        tmp_path,
        train="a B-PER\n\nb B-PER\n\nc B-PER\n\nc O\n\nd O\n",
        llm="a B-LOC\n",
        unlabelled="-DOCSTART-\n\ne\nf\n\nd\n\n",
    )
    config = DataConfig(data="mixed", expert="1", corpus=folder)
    found = corpus(config, seed=1)
    rows = list(found.corpus)
    expert, weak, unlabelled = ([rows[i] for i in places] for places in found.places())
    assert len(expert) == 1 and all(s.tags is None for s in unlabelled)
    known = {s.words for s in (*expert, *weak)}
    assert {s.words for s in unlabelled} == {(w,) for w in "abcd"} - known | {("e", "f")}
    assert len(unlabelled) == len({s.words for s in unlabelled})
    some = corpus(DataConfig(data="mixed", expert="1", corpus=folder, unlabelled=2), seed=1)
    assert len(some.places()[2]) == 2


def test_several_sources_are_read_one_after_the_other(tmp_path):
    folder = write(tmp_path, train="a O\n", **{"llm": "a B-PER\n", "llm.b": "a B-LOC\nx O\n"})
    found = corpus(DataConfig(data="llm", corpus=folder, repair=("none",)))
    assert [s.tags for s in found.corpus] == [("B-PER",), ("B-LOC", "O")]
    assert [s.location for s in found.corpus] == ["llm.txt:1", "llm.b.txt:1"]


# ------------------------------------------------------------ repair


def repaired(tmp_path, text: str, *repairs: str, known=frozenset()):
    folder = write(tmp_path, llm=text)
    return repair(sources.load(folder, "llm"), repairs, known)


ILL = "a B-PER\nb I-PER\n\nc O\nd I-LOC\n\ne B-ORG\nf I-LOC\n"


def test_sentences_with_invalid_tags_are_left_out_and_counted(tmp_path):
    found = repaired(tmp_path, ILL, "well-formed")
    assert [s.words for s in found] == [("a", "b")]
    assert "well-formed: 2 of 3 weakly labelled sentences" in found.notes[-1]
    assert found.entity_types() == {"PER", "LOC", "ORG"}  # a model may still have them all


def test_in_iob1_an_inside_tag_begins_an_entity_and_is_no_error(tmp_path):
    found = repaired(tmp_path, "a I-PER\nb I-PER\n\nc O\nd I-LOC\nd B-LOC\n", "well-formed")
    assert [s.tags for s in found] == [("B-PER", "I-PER"), ("O", "B-LOC", "B-LOC")]


def test_without_repair_invalid_inside_tags_begin_entities(tmp_path):
    found = repaired(tmp_path, ILL)
    assert [s.tags for s in found][1:] == [("O", "B-LOC"), ("B-ORG", "B-LOC")]


def test_types_without_expert_labels_are_left_unlabelled(tmp_path):
    text = "a B-PER\nb B-DATE\nc I-DATE\nd O\n"
    found = repaired(tmp_path, text, "inventory", known=frozenset({"PER"}))
    (sentence,) = found
    assert sentence.tags == ("B-PER", "X", "X", "O") and found.entity_types() == {"PER"}
    assert "inventory: 1 of 2 weakly labelled entities" in found.notes[-1]


def test_entities_of_unlikely_words_are_dropped(tmp_path):
    names = "".join(f"Name{i} B-PER\nof I-PER\nOslo I-PER\nsaid O\n17 O\n\n" for i in range(20))
    found = repaired(tmp_path, names + "the B-MISC\n17 B-LOC\nOslo B-LOC\n", "form")
    *rest, last = found
    assert last.tags == ("B-MISC", "O", "B-LOC")  # small letters are often in names here
    assert all(s.tags[:3] == ("B-PER", "I-PER", "I-PER") for s in rest)  # of is within a name


@pytest.mark.parametrize("script", ["東京", "دبي", "ישראל"])
def test_where_letters_have_no_case_form_drops_nothing(tmp_path, script):
    text = f"{script} B-LOC\n{script} O\n{script} O\n{script} O\n\n" * 10
    found = repaired(tmp_path, text, "form")
    assert found.tag_counts()["B-LOC"] == 10


def test_a_shape_has_every_run_once():
    words = ["McDonald", "U.S.", "1996-08-22", "don't", "東京", "A380", "--"]
    assert [word_shape(w) for w in words] == ["XxXx", "X.X.", "d-d-d", "x'x", "a", "Xd", "-"]


def test_every_source_has_a_scheme_of_its_own(tmp_path):
    iob1, iob2 = "a I-PER\nb I-PER\n", "a B-PER\nb I-PER\n\nc O\nd I-PER\n"
    folder = write(tmp_path, **{"llm": iob1, "llm.two": iob2})
    found = repair(sources.load(folder, "llm"), ["well-formed"])
    assert [s.tags for s in found] == [("B-PER", "I-PER")] * 2
    assert "1 of 3 weakly labelled sentences" in found.notes[-1]


@pytest.mark.parametrize(
    "values, message",
    [
        (
            {"data": "llm", "repair": ("well-formed",)},
            "is left to learn from, of 2: 2 left out by --repair well-f",
        ),
        (
            {"combine": "selftrain", "expert": "100%"},
            "is left to learn from, of 2: 2 with expert labels",
        ),
    ],
)
def test_a_run_without_weak_labels_to_learn_from_is_refused(tmp_path, values, message):
    folder = write(tmp_path, train="z O\n\ny B-PER\n", llm="a O\nb I-PER\n\nc B-PER\nd I-LOC\n")
    if values.get("combine") == "selftrain":
        folder = write(tmp_path, llm="z O\n\ny O\n")
    with pytest.raises(InputError, match=message):
        corpus(DataConfig(**({"data": "mixed", "corpus": folder} | values)))


def test_lines_of_raw_text_are_no_unlabelled_sentences(tmp_path):
    folder = write(tmp_path, unlabelled="Hello world how are you\n")
    with pytest.raises(InputError, match=r"unlabelled.txt:1: found 5 columns .* a word per line"):
        sources.load(folder, "unlabelled")


def test_the_llms_labels_of_conll2003_by_repair(conll2003):
    """Label F1 against gold of the notes: 0.456 as they are, 0.535 of well-formed sentences."""
    gold = {s.words: s.tags for s in sources.load(str(conll2003), "train")}
    written = sources.load(str(conll2003), "llm")
    assert sum(tags.num_invalid_inside(s.tags) for s in written) == 590
    f1 = {}
    for repairs in ((), ("well-formed",), ("well-formed", "form")):
        right = found = there = 0
        for sentence in repair(written, repairs):
            a, b = set(tags.entities(gold[sentence.words])), set(tags.entities(sentence.tags))
            right, found, there = right + len(a & b), found + len(b), there + len(a)
        f1[repairs] = 2 * right / (found + there)
    assert f1[()] == pytest.approx(0.456, abs=1e-3)
    assert f1["well-formed",] == pytest.approx(0.535, abs=1e-3)
    assert f1["well-formed", "form"] > f1["well-formed",] + 0.03


# ------------------------------------------------------------ repair auto

BOTH = ("well-formed", "form")


@pytest.mark.parametrize(
    "first, second, exceeds",
    [
        (Share(40, 100), Share(20, 100), True),  # z = 0.2 / sqrt(0.3 * 0.7 * 2 / 100) = 3.09
        (Share(39, 100), Share(20, 100), False),  # z = 0.19 / sqrt(0.295 * 0.705 * 2 / 100) = 2.95
        (Share(20, 100), Share(40, 100), False),
        (Share(1400, 10_000), Share(1000, 10_000), False),  # z = 8.7, but only 1.4 times as large
        (Share(4, 4), Share(0, 1000), False),  # 0.016 expected: too few for the test
        (Share(0, 0), Share(5, 10), False),
    ],
)
def test_a_share_exceeds_another_one_by_its_ratio_and_by_the_z_test(first, second, exceeds):
    assert first.exceeds(second) == exceeds


def hundred(tmp_path, is_odd, odd_tag="B-LOC", first_tag=lambda i: "B-PER") -> Corpus:
    """100 sentences Anna wK . with a name; is_odd(word, which of its 10 places) tags the word."""
    rows = [(i, i % 10, i // 10) for i in range(100)]
    tagged = [(i, k, odd_tag if is_odd(k, place) else "O") for i, k, place in rows]
    # w0 is wa: words without digits
    text = "\n".join(f"Anna {first_tag(i)}\nw{chr(97 + k)} {tag}\n. O\n" for i, k, tag in tagged)
    return sources.load(write(tmp_path, llm=text), "llm")


def test_auto_chooses_form_where_the_same_words_are_wrong_again(tmp_path):
    """In 3 of 10 words every place is wrong: all others of a wrong place, none of the rest."""
    assert choose_repairs(hundred(tmp_path, lambda word, place: word < 3)) == ("form",)


def test_auto_repairs_nothing_where_any_word_may_be_wrong(tmp_path):
    """As many wrong places, 3 of the 10 of each word: 2/9 of the others of a wrong place."""
    assert choose_repairs(hundred(tmp_path, lambda word, place: place < 3)) == ("none",)


def test_auto_leaves_sentences_out_where_their_tags_are_misplaced(tmp_path):
    found = hundred(tmp_path, lambda word, place: word < 3, odd_tag="I-LOC")
    assert choose_repairs(found) == BOTH


def test_auto_keeps_sentences_whose_invalid_tags_are_at_the_right_words(tmp_path):
    first = lambda i: "I-PER" if i % 10 > 6 else "B-PER"  # noqa: E731
    found = hundred(tmp_path, lambda word, place: word < 3, first_tag=first)
    assert choose_repairs(found) == ("form",)


@pytest.mark.parametrize("kind", ["", *(f":{kind}" for kind in noise.SHARES)])
def test_auto_repairs_nothing_under_noise_that_the_repairs_do_not_suit(kind):
    assert choose_repairs(sources.load(f"sample:8000{kind}", "llm")) == ("none",)


def test_auto_makes_both_repairs_of_the_llms_labels_of_conll2003(conll2003, caplog):
    caplog.set_level("INFO")
    written = sources.load(str(conll2003), "llm")
    both, chosen = repair(written, BOTH), repair(written, ["auto"])
    assert chosen.fingerprint() == both.fingerprint() and chosen.notes == both.notes
    assert [r.message for r in caplog.records if "auto chooses well-formed form:" in r.message]


@pytest.mark.parametrize("kind", noise.SHARES)
def test_auto_repairs_nothing_of_errors_planted_in_expert_labels(conll2003, tmp_path, kind):
    import weak_labels as experiment

    folder = experiment.make_corpus(tmp_path / kind, conll2003, kind)
    planted, llm = (sources.load(str(place), "llm") for place in (folder, conll2003))
    assert [s.words for s in planted] == [s.words for s in llm]
    assert choose_repairs(planted) == ("none",)
    paired = pair_labels(read_experts(str(folder), None, planted, None, 0), planted)
    (*_, precision, recall, f1) = agreement_by_type(paired)[1]
    assert {"missing": precision, "spurious": recall}.get(kind, 1) == 1
    assert f1 == pytest.approx(0.66 if kind == "spurious" else 0.46, abs=0.03)


def test_auto_keeps_expert_labels_whose_entities_begin_with_inside_tags(conll2003):
    expert = sources.load(str(conll2003), "validation").select(range(2000))
    sentences = [  # every third one has I- for B-
        s._replace(tags=tuple(tag.replace("B-", "I-") for tag in s.tags)) if i % 3 == 0 else s
        for i, s in enumerate(expert)
    ]
    assert choose_repairs(Corpus.of(sentences)) == ("none",)


# ------------------------------------------------------------ probabilities

SOFT = "a B-PER:0.7|B-ORG:0.2\nb I-PER:.5\nc O\n\nd O:1\n"


def test_probabilities_are_targets_and_the_most_probable_is_the_tag(tmp_path):
    folder = write(tmp_path, train="x B-ORG\n", llm=SOFT)
    found = corpus(DataConfig(data="mixed", expert="1", corpus=folder, combine="pretrain"))
    assert [s.tags for s in found.corpus][1:] == [("B-PER", "I-PER", "O"), ("O",)]
    inventory = tags.inventory(("PER", "ORG"))
    rows = soft_targets(found.corpus, inventory)
    wanted = [{"B-ORG": 1}, {"B-PER": 0.7, "B-ORG": 0.2}, {"I-PER": 0.5}, {"O": 1}, {"O": 1}]
    for row, own in zip(rows, wanted, strict=True):
        shown = {inventory[i]: pytest.approx(float(row[i])) for i in row.nonzero()[0]}
        assert own == shown


def test_a_type_that_is_nowhere_the_most_probable_counts_too(tmp_path):
    found = sources.load(write(tmp_path, llm="a O:0.6|B-DATE:0.4\n"), "llm")
    assert found.entity_types() == {"DATE"}
    assert soft_targets(found, found.inventory()).sum() == pytest.approx(1)
    other = sources.load(write(tmp_path, llm="a O:0.7|B-DATE:0.3\n"), "llm")
    assert other.fingerprint() != found.fingerprint()


def test_a_repaired_word_has_its_new_tag_with_the_sum_of_its_probabilities(tmp_path):
    found = repaired(tmp_path, SOFT, "inventory", known=frozenset({"ORG"}))
    rows = soft_targets(found, tags.inventory(("ORG",)))
    assert rows.sum(axis=1).tolist() == [0, 0, 1, 1]


def test_without_probabilities_there_are_no_targets(tmp_path):
    assert soft_targets(repaired(tmp_path, ILL), tags.inventory(("PER",))) is None


@pytest.mark.parametrize(
    "cell",
    [
        *("B-PER:0.7|B-PER:0.2", "B-PER:0.9|O:0.2", "S-PER:0.5", "O:0.5|x", "B-PER:0,7|O:0.3"),
        *("B-PER:nan|O:0.2", "B-PER:|O:1", "B-PER:0,7", "B-PER:1.5", "B-PER:-0.5"),
        *("B-PER:NaN", "B-PER:inf", "B-PER:-Infinity", "B-PER:1e-3", "B-PER:7E+2", "B-PER:70%"),
        *("B-PER:0.5:0.5", "B-PER:0.7,O:0.2", "B-PER:0.6|O:0.6", "O:0", "X:0.5", "B-PER:0.5|"),
    ],
)
def test_bad_probabilities_say_where(tmp_path, cell):
    with pytest.raises(InputError, match=r"llm.txt:2: .*wanted IOB2 tags, each once"):
        sources.load(write(tmp_path, llm=f"a O\nb {cell}\n"), "llm")


def test_only_weak_labels_have_probabilities(tmp_path):
    for cell in ("B-PER:0.7|O:0.2", "O:1", "B-LOC:1"):
        folder = write(tmp_path, train=f"a O\nb {cell}\n")
        with pytest.raises(InputError, match=r"train.txt:2: .* has probabilities, which only weak"):
            sources.load(folder, "train")


def test_a_type_with_a_colon_is_a_type(tmp_path):
    found = sources.load(write(tmp_path, llm="a B-ns:thing\nb B-v:2x\n"), "llm")
    assert found.tag_counts().keys() == {"B-ns:thing", "B-v:2x"}
    found = sources.load(write(tmp_path, llm="a B-ns:thing:0.7|B-v:2x:0.2\n"), "llm")
    assert found.entity_types() == {"ns:thing", "v:2x"}
    found = sources.load(write(tmp_path, train="a B-GPE|LOC\nb B-v:2x\n"), "train")
    assert found.entity_types() == {"GPE|LOC", "v:2x"}


def test_a_dropped_entity_is_outside_with_the_sum_of_its_probabilities(tmp_path):
    text = "".join(f"Name{i} B-PER\nOslo I-PER\nsaid O\n17 O\n\n" for i in range(20))
    found = repaired(tmp_path, text + "17 B-LOC:0.4|O:0.2\n", "form")
    inventory = tags.inventory(("PER", "LOC"))
    last = soft_targets(found, inventory)[-1]
    assert last[inventory.index("O")] == pytest.approx(0.6) == pytest.approx(float(last.sum()))
