"""Words, pieces and windows: nothing is lost, and everything is where it should be."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from nerc.data import tags
from nerc.data.corpus import Corpus, Sentence
from nerc.errors import InputError
from nerc.model import encoding
from nerc.model.encoding import NO_LABEL
from nerc.model.tokenizer import load_tokenizer

ROOT = Path(__file__).parents[1]
INVENTORY = tags.inventory(tags.CONLL_TYPES)


def corpus(*sentences: list[str]) -> Corpus:
    return Corpus.of(Sentence(tuple(s), ("O",) * len(s), "toy", 0) for s in sentences)


def words_seen(encoded, batch, tokenizer) -> list[list[str]]:
    """The first piece of every word, read back from where the batch says that it stands."""
    real = batch.input_ids.flatten()[batch.real_pieces]
    return [
        tokenizer.convert_ids_to_tokens(own.tolist())
        for own in real[batch.word_pieces].split(batch.num_words.tolist())
    ]


def first_pieces(sentence, tokenizer) -> list[str]:
    return [(tokenizer.tokenize(word) or [tokenizer.unk_token])[0] for word in sentence]


def test_every_word_is_read_at_its_first_piece(tokenizer):
    sentences = [["The", "unbelievably", "minister", "said"], ["!"], ["government"] * 3]
    encoded = encoding.encode(corpus(*sentences), tokenizer, INVENTORY, 64)
    batch = encoding.collate(encoded, [2, 0, 1])
    wanted = [first_pieces(sentences[i], tokenizer) for i in (2, 0, 1)]
    assert words_seen(encoded, batch, tokenizer) == wanted
    assert batch.num_words.tolist() == [3, 4, 1]
    assert encoded.num_pieces().sum() > encoded.num_words().sum()  # some word has several


def test_words_without_a_piece_become_the_unknown_piece(tokenizer):
    sentence = ["\u2063", "said", "\u2063", "\x07", "it", "\u00ad"]
    assert [tokenizer.tokenize(word) for word in sentence].count([]) == 4
    encoded = encoding.encode(corpus(sentence, ["\u2063"]), tokenizer, INVENTORY, 64)
    batch = encoding.collate(encoded, [0, 1])
    unknown = tokenizer.unk_token
    first, second = words_seen(encoded, batch, tokenizer)
    assert second == [unknown]
    assert first == first_pieces(sentence, tokenizer)
    assert [first[i] for i in (0, 2, 3, 5)] == [unknown] * 4


@pytest.mark.parametrize("num_words", [1, 61, 62, 63, 200, 5000])
def test_windows_own_every_word_once_and_never_overflow(num_words):
    counts = np.random.default_rng(num_words).integers(1, 5, size=num_words)
    limit = 62
    found = encoding.windows(counts, limit)
    owned = [word for w in found for word in range(w.own_start, w.own_end)]
    assert owned == list(range(num_words))
    for window in found:
        assert window.start <= window.own_start < window.own_end <= window.end
        assert counts[window.start : window.end].sum() <= limit
    for left, right in zip(found, found[1:], strict=False):
        # A word at a border sees others on both sides: about a quarter of a window.
        assert counts[right.start : right.own_start].sum() > limit // 4 - 4
        assert counts[left.own_end : left.end].sum() > limit // 4 - 4


def test_a_sentence_of_5000_words_keeps_every_word(tokenizer):
    sentence = ["minister", "said", "government"] * 1666 + ["it", "said"]
    encoded = encoding.encode(corpus(sentence, ["said"]), tokenizer, INVENTORY, 64)
    batch = encoding.collate(encoded, [0, 1])
    assert words_seen(encoded, batch, tokenizer)[0] == first_pieces(sentence, tokenizer)
    assert 60 < batch.input_ids.shape[1] <= 64


def test_words_that_look_like_special_pieces_are_words(tokenizer):
    encoded = encoding.encode(corpus(["[SEP]", "said", "[MASK]"]), tokenizer, INVENTORY, 64)
    assert not {tokenizer.sep_token_id, tokenizer.mask_token_id} & set(encoded.pieces.tolist())
    assert encoded.num_words().tolist() == [3]


def test_words_that_are_not_read_whole_are_counted(tokenizer):
    sentence = ["said", "-".join("ab" * 12), "\u2063", "\u2063"]
    cut, unknown = encoding.encode(corpus(sentence), tokenizer, INVENTORY, 32).notes
    assert cut == "1 words have more than 7 pieces, of which the first 7 are read"
    assert unknown.startswith("2 words have no piece")
    assert encoding.encode(corpus(["said"]), tokenizer, INVENTORY, 32).notes == ()


def test_a_word_longer_than_a_window_is_one_word(tokenizer):
    limit = 32
    sentence = ["said", "-".join("ab" * 12), "said"]
    assert len(tokenizer.tokenize(sentence[1])) > limit
    encoded = encoding.encode(corpus(sentence), tokenizer, INVENTORY, limit)
    batch = encoding.collate(encoded, [0])
    assert words_seen(encoded, batch, tokenizer) == [first_pieces(sentence, tokenizer)]


def test_labels_belong_to_their_words(tokenizer):
    labelled = Sentence(("a", "b", "c"), ("B-PER", "[SEP]", "I-MISC"), "toy", 0)
    bare = Sentence(("a",), None, "toy", 0)
    encoded = encoding.encode(Corpus.of([labelled, bare]), tokenizer, INVENTORY, 64)
    batch = encoding.collate(encoded, [1, 0])
    assert batch.labels.tolist() == [NO_LABEL, 1, NO_LABEL, 8]
    assert encoded.num_labelled().tolist() == [2, 0]


def test_padding_is_masked(tokenizer):
    encoded = encoding.encode(corpus(["said"] * 5, ["said"]), tokenizer, INVENTORY, 64)
    batch = encoding.collate(encoded, [0, 1])
    assert batch.attention_mask.sum(dim=1).tolist() == [7, 3]
    assert batch.attention_mask.flatten().nonzero().flatten().equal(batch.real_pieces)
    assert batch.input_ids[~batch.attention_mask].eq(0).all()
    assert batch.num_words.tolist() == [5, 1]


def test_the_learnt_tokenizer_survives_saving(tokenizer, tmp_path):
    tokenizer.save_pretrained(tmp_path)
    again = load_tokenizer(str(tmp_path), len(tokenizer))
    text = ["The", "Prime-Minister", "\u2063", "spoke", "."]
    one, two = (t(text, is_split_into_words=True) for t in (tokenizer, again))
    assert one["input_ids"] == two["input_ids"] and one.word_ids() == two.word_ids()
    assert tokenizer.tokenize("said") == ["said"] and tokenizer.tokenize("Said") != ["said"]


def test_a_folder_without_a_fitting_tokenizer_is_refused(tmp_path, tokenizer):
    with pytest.raises(InputError, match="holds no tokenizer"):
        load_tokenizer(str(tmp_path), 100)
    tokenizer.save_pretrained(tmp_path)
    size = len(tokenizer)
    found = f"has {size} pieces, 5 of them special, and does not fit .* has {size - 1};"
    with pytest.raises(InputError, match=found):
        load_tokenizer(str(tmp_path), size - 1)


def test_every_process_learns_the_same_vocabulary():
    code = """
import json
from nerc.data import sources
from nerc.model.tokenizer import learn_tokenizer
vocabulary = learn_tokenizer(sources.load("sample:500", "train"), 2000).get_vocab()
print(json.dumps(vocabulary, sort_keys=True))
"""
    runs = [
        subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, check=True)
        for _ in range(2)
    ]
    assert runs[0].stdout == runs[1].stdout
    vocabulary = json.loads(runs[0].stdout)
    assert len(vocabulary) == 2000 and sorted(vocabulary.values()) == list(range(2000))


def test_code_beside_a_tokenizer_is_not_run(encoder, tmp_path):
    folder = tmp_path / "encoder"
    shutil.copytree(encoder, folder)
    config = json.loads((folder / "tokenizer_config.json").read_text())
    config |= {"auto_map": {"AutoTokenizer": ["evil.Evil", "evil.Evil"]}, "tokenizer_class": "Evil"}
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    own = json.loads((folder / "config.json").read_text()) | {"model_type": "nerc"}
    (folder / "config.json").write_text(json.dumps(own))  # as in a revision
    (folder / "evil.py").write_text("print('it ran')\nclass Evil:\n    pass\n")
    code = (
        "import sys; from nerc.model import tokenizer; tokenizer.load_tokenizer(sys.argv[1], 10**6)"
    )
    line = [sys.executable, "-c", code, str(folder)]
    done = subprocess.run(line, input="y\n", capture_output=True, text=True, cwd=ROOT)
    assert not done.stdout  # neither run, nor asked about
    assert "its tokenizer cannot be loaded" in done.stderr
