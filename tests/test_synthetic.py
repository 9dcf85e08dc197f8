"""The built-in corpus: the same every time, worth learning, and as wrong in `llm` as a real LLM."""

import re
from collections import Counter
from collections.abc import Callable, Iterable
from itertools import islice

import pytest

from nerc.data import noise, sources
from nerc.data.synthetic import COINED, generate, owner, read_table
from nerc.data.tags import CONLL_TYPES, Entity, entities, num_invalid_inside

GOLD = ("train", "validation", "test")
# Words that names of all splits have: Bank, of, Open, ...; and years.
SHARED_WORDS = {word.lower() for word in set(read_table("names").split()) - COINED}


@pytest.fixture(scope="module")
def corpora() -> dict[str, list]:
    return {split: list(generate(split, 8000)) for split in GOLD}


def coined_words(sentences: Iterable) -> set[str]:
    words = {
        word.lower()
        for sentence, tags, _ in sentences
        for word, tag in zip(sentence, tags, strict=True)
        if tag != "O"
    }
    return {word for word in words - SHARED_WORDS if not word.isdigit()}


def f1(gold: Iterable[set], found: Iterable[set]) -> float:
    right = num_gold = num_found = 0
    for a, b in zip(gold, found, strict=True):
        right, num_gold, num_found = right + len(a & b), num_gold + len(a), num_found + len(b)
    return 2 * right / (num_gold + num_found)


def f1_of_rule(sentences: list, rule: Callable[[list[str]], Iterable[Entity]]) -> float:
    return f1((set(entities(t)) for _, t, _ in sentences), (set(rule(w)) for w, _, _ in sentences))


def capitalised_runs(words: list[str]) -> list[tuple[int, int]]:
    """Maximal runs of capitalised words; the first word of the sentence does not count."""
    marks = "".join("C" if i and word[0].isupper() else "." for i, word in enumerate(words))
    return [match.span() for match in re.finditer("C+", marks)]


@pytest.mark.parametrize("split", [*GOLD, "llm"])
def test_same_seed_gives_the_same_sentences_and_another_seed_others(split):
    first = list(generate(split, 300, seed=7))
    assert first == list(generate(split, 300, seed=7))
    assert first != list(generate(split, 300, seed=8))


@pytest.mark.parametrize("split", [*GOLD, "llm", "llm-spurious", "llm-type"])
def test_longer_corpus_begins_with_the_shorter(split):
    short = list(generate(split, 333))
    assert list(generate(split, 1000))[: len(short)] == short


@pytest.mark.parametrize("split", GOLD)
@pytest.mark.parametrize("size", [1, 2, 1000])
def test_gold_splits_have_exactly_size_sentences(split, size):
    assert len(list(generate(split, size))) == size


def test_a_billion_sentences_start_at_once():
    for split in (*GOLD, "llm"):
        words, tags, document = next(iter(generate(split, 10**9)))
        assert len(words) == len(tags) and document >= 0


@pytest.mark.parametrize("split", GOLD)
def test_gold_tags_are_valid_iob2_one_to_a_word(corpora, split):
    allowed = {"O", *(f"{prefix}-{type_}" for type_ in CONLL_TYPES for prefix in "BI")}
    for words, tags, _ in corpora[split]:
        assert len(words) == len(tags) > 0
        assert allowed.issuperset(tags) and num_invalid_inside(tags) == 0
        assert all(word and not re.search(r"\s", word) for word in words)
        assert (
            not any(mark in word for word in words for mark in "<>{}[]|") and "$person" not in words
        )


def test_documents_are_numbered_in_order_and_have_several_sentences(corpora):
    numbers = [document for _, _, document in corpora["train"]]
    assert numbers == sorted(numbers) and set(numbers) == set(range(numbers[-1] + 1))
    assert min(Counter(numbers[: numbers.index(numbers[-1])]).values()) >= 5


def test_splits_share_no_word_of_a_name(corpora):
    names = {split: coined_words(corpora[split]) for split in GOLD}
    assert min(len(words) for words in names.values()) > 1000
    assert not names["train"] & (names["validation"] | names["test"])
    assert not names["validation"] & names["test"]
    assert all(owner(word) == split for split in GOLD for word in names[split])


def test_words_of_names_are_no_ordinary_words(corpora):
    for split in GOLD:
        ordinary = {
            word.lower()
            for words, tags, _ in corpora[split]
            for word, tag in zip(words, tags, strict=True)
            if tag == "O"
        }
        assert not coined_words(corpora[split]) & ordinary


def test_names_are_told_in_full_before_they_are_short(corpora):
    """Most persons named by one word were the end of a longer name before, in the same document."""
    known, shortened, total = set(), 0, 0
    document = None
    for words, tags, number in corpora["train"]:
        if number != document:
            document, known = number, set()
            continue  # the headline
        for type_, start, end in entities(tags):
            if type_ == "PER" and end - start == 1:
                total += 1
                shortened += words[start] in known
            elif type_ == "PER":
                known.add(words[end - 1])
    assert shortened / total > 0.6


def test_class_balance_and_lengths_are_near_those_of_conll2003(corpora):
    sentences = corpora["train"]
    found = [entities(tags) for _, tags, _ in sentences]
    counts = Counter(entity.type for some in found for entity in some)
    # CoNLL-2003's train: 14.5 words, 1.67 entities, 21 % without any, 13 % in capitals
    for type_, share in {"PER": 0.28, "LOC": 0.30, "ORG": 0.27, "MISC": 0.15}.items():
        assert counts[type_] / counts.total() == pytest.approx(share, abs=0.03)
    assert sum(len(words) for words, _, _ in sentences) / len(sentences) == pytest.approx(
        14.5, abs=1
    )
    assert counts.total() / len(sentences) == pytest.approx(1.67, abs=0.2)
    assert sum(not some for some in found) / len(sentences) == pytest.approx(0.2, abs=0.03)
    in_capitals = sum(" ".join(words).isupper() for words, _, _ in sentences)
    assert in_capitals / len(sentences) == pytest.approx(0.13, abs=0.03)


def test_a_dictionary_of_the_training_names_finds_little(corpora):
    counts = Counter(
        (" ".join(words[start:end]), type_)
        for words, tags, _ in corpora["train"]
        for type_, start, end in entities(tags)
    )
    type_of = {name: type_ for (name, type_), _ in reversed(counts.most_common())}

    def look_up(words: list[str]) -> Iterable[Entity]:
        start = 0
        while start < len(words):
            ends = range(min(len(words), start + 5), start, -1)
            end = next((end for end in ends if " ".join(words[start:end]) in type_of), None)
            if end is not None:
                yield Entity(type_of[" ".join(words[start:end])], start, end)
            start = end or start + 1

    assert f1_of_rule(corpora["train"], look_up) > 0.5  # the dictionary works
    assert f1_of_rule(corpora["validation"], look_up) < 0.2


@pytest.mark.parametrize("type_", CONLL_TYPES)
def test_capital_letters_find_little(corpora, type_):
    def rule(words: list[str]) -> list[Entity]:
        return [Entity(type_, start, end) for start, end in capitalised_runs(words)]

    assert f1_of_rule(corpora["validation"], rule) < 0.3


def test_capital_letters_do_not_even_tell_where_names_are(corpora):
    gold = ({(e.start, e.end) for e in entities(tags)} for _, tags, _ in corpora["validation"])
    found = (set(capitalised_runs(words)) for words, _, _ in corpora["validation"])
    assert f1(gold, found) < 0.62


def test_llm_sentences_are_training_sentences_about_one_in_seven_and_short():
    train = {(document, *words) for words, _, document in generate("train", 20_000)}
    llm = list(generate("llm", 20_000))
    assert all((document, *words) in train for words, _, document in llm)
    assert len(llm) / 20_000 == pytest.approx(1 / 7, abs=0.02)
    assert sum(len(words) for words, _, _ in llm) / len(llm) == pytest.approx(8.5, abs=1)


def test_llm_labels_are_as_wrong_as_the_measured_ones():
    """2,037 sentences of CoNLL-2003: counted against their gold labels."""
    size = 60_000
    gold_tags = {(number, *words): tags for words, tags, number in generate("train", size)}
    pairs = [(gold_tags[number, *w], tags) for w, tags, number in generate("llm", size)]
    gold = [set(entities(tags)) for tags, _ in pairs]
    llm = [set(entities(tags)) for _, tags in pairs]

    for type_, measured in {"PER": 0.753, "LOC": 0.599, "ORG": 0.316, "MISC": 0.047}.items():
        of_type = [[{e for e in s if e.type == type_} for s in some] for some in (gold, llm)]
        assert f1(*of_type) == pytest.approx(measured, abs=0.05), type_
    right = sum(len(a & b) for a, b in zip(gold, llm, strict=True))
    assert right / sum(map(len, llm)) == pytest.approx(0.356, abs=0.05)
    assert right / sum(map(len, gold)) == pytest.approx(0.633, abs=0.05)
    assert f1(gold, llm) == pytest.approx(0.456, abs=0.05)
    spans = [[{e[1:] for e in some} for some in side] for side in (gold, llm)]
    assert f1(*spans) == pytest.approx(0.617, abs=0.05)

    assert sum(a == b for a, b in pairs) / len(pairs) == pytest.approx(0.382, abs=0.05)
    assert sum(num_invalid_inside(b) > 0 for _, b in pairs) / len(pairs) == pytest.approx(
        0.18, abs=0.03
    )
    left_out = sum(x == "O" != y for a, b in pairs for x, y in zip(b, a, strict=True))
    assert left_out / sum(tag == "O" for _, b in pairs for tag in b) < 0.02


@pytest.mark.parametrize(
    ("split", "size", "message"),
    [("train", 0, "at least 1 .* not 0"), ("llm", -3, "not -3"), ("dev", 9, "'dev'.* validation")],
)
def test_bad_arguments_say_what_is_wanted(split, size, message):
    with pytest.raises(ValueError, match=message):
        generate(split, size)


def test_sentences_are_made_when_asked_for():
    assert len(list(islice(generate("llm", 10**9), 20))) == 20


def test_the_other_noise_misses_names_and_invents_none():
    gold = {(d, *words): tags for words, tags, d in generate("train", 8000)}
    cheap = list(generate("llm-missing", 8000))
    assert 900 < len(cheap) < 1300
    names = found = spurious = 0
    for words, tags, document in cheap:
        for own, wanted in zip(tags, gold[document, *words], strict=True):
            names += wanted[0] == "B"
            found += wanted[0] == "B" and own != "O"
            spurious += wanted == "O" and own != "O"
    assert 0.42 < found / names < 0.56
    assert spurious < 0.05 * names  # where a name swallows the next word


def noisy_pairs(kind: str) -> list[tuple[set[Entity], set[Entity]]]:
    """The right entities of each weakly labelled sentence, and those with errors of one kind."""
    gold = {(d, *words): tags for words, tags, d in generate("train", 8000)}
    cheap = list(generate(f"llm-{kind}", 8000))
    assert 900 < len(cheap) < 1300
    assert not any(num_invalid_inside(tags) for _, tags, _ in cheap)
    return [(set(entities(gold[d, *w])), set(entities(tags))) for w, tags, d in cheap]


def test_spurious_noise_keeps_all_names_and_puts_others_between_them():
    pairs = noisy_pairs("spurious")
    assert all(right <= found for right, found in pairs)
    num_right, num_found = (sum(len(pair[k]) for pair in pairs) for k in (0, 1))
    assert 1.8 < num_found / num_right < 2.2  # as many as there are names


def test_type_noise_gives_other_types_to_the_same_words():
    pairs = noisy_pairs("type")
    assert all({e[1:] for e in right} == {e[1:] for e in found} for right, found in pairs)
    assert f1(*zip(*pairs, strict=True)) == pytest.approx(0.456, abs=0.03)  # that of Llama's labels


def test_boundary_noise_moves_one_end_of_a_name_by_one_word():
    pairs = noisy_pairs("boundary")
    for right, found in pairs:
        for old, new in zip(sorted(right, key=ends), sorted(found, key=ends), strict=True):
            moved = abs(old.start - new.start) + abs(old.end - new.end)
            assert old.type == new.type and moved <= 1
    assert f1(*zip(*pairs, strict=True)) == pytest.approx(0.456, abs=0.03)


def ends(entity: Entity) -> tuple[int, int]:
    return entity.start, entity.end


def test_missing_noise_removes_names_and_changes_none():
    pairs = [
        (set(entities(tags)), set(entities(noise.noisy(words, tags, "missing", CONLL_TYPES, [i]))))
        for i, (words, tags, _) in enumerate(generate("train", 1000))
    ]
    assert all(found <= right for right, found in pairs)
    assert f1(*zip(*pairs, strict=True)) == pytest.approx(0.456, abs=0.03)


def test_the_corpora_are_the_ones_that_the_records_were_measured_on():
    """The fingerprints were taken before the noises of nerc.data.noise were added."""
    known = {
        "sample:8000": "275446babb243b350f516b9e12c30309a27cc0e59fe93cb54d28ca5a25a16781",
        "sample:3000:missing": "ce955b78c149ba3883c0d87b1e5f85a3764b128cfc0d25f92a1884a84d393a17",
    }
    for corpus, fingerprint in known.items():
        assert sources.load(corpus, "llm").fingerprint() == fingerprint


@pytest.mark.parametrize("kind", noise.SHARES)
def test_a_kind_of_noise_is_part_of_the_name_of_the_corpus(kind):
    wanted = [tuple(tags) for _, tags, _ in generate(f"llm-{kind}", 300)]
    assert [s.tags for s in sources.load(f"sample:300:{kind}", "llm")] == wanted
    right = [tuple(tags) for _, tags, _ in generate("train", 300)]
    assert [s.tags for s in sources.load(f"sample:300:{kind}", "train")] == right
