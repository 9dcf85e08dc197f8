"""Tokenizers: learnt from a corpus, or loaded with an encoder or a revision."""

import logging
from pathlib import Path

import pyarrow.compute as pc
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers
from transformers import AutoTokenizer, BertTokenizer, PreTrainedTokenizerBase

from nerc import hub
from nerc.data.corpus import Corpus, Sentence
from nerc.errors import InputError
from nerc.files import read_json
from nerc.model.encoding import encode

logger = logging.getLogger(__name__)

TOKENIZER_FILES = ("tokenizer.json", "vocab.txt")
DEFAULT_ENCODER = "bert-base-cased"

# The files from which transformers makes a tokenizer, and what they hold at least.
_FILES = {"tokenizer.json": {"model": {"type": str}}, "tokenizer_config.json": dict}
_FILES |= {"special_tokens_map.json": dict, "added_tokens.json": dict}
_TRIAL = Corpus.of([Sentence(("a", "\u2603", "\U0010fffe"), None, "", 0)])  # most are unknown


def learn_tokenizer(corpus: Corpus, vocab_size: int) -> PreTrainedTokenizerBase:
    """A cased WordPiece tokenizer like BERT's, with a vocabulary learnt from the corpus.

    The same words give the same vocabulary in every process.
    """
    names = ("pad", "unk", "cls", "sep", "mask")
    special = {f"{name}_token": f"[{name.upper()}]" for name in names}
    normalizer = normalizers.BertNormalizer(lowercase=False)
    words = sorted(pc.unique(pc.list_flatten(corpus.table["words"])).to_pylist())
    letters = sorted({c for word in words for c in normalizer.normalize_str(word)} - {" "})
    # The trainer breaks ties by ids, and would number the letters in the order of a hash table,
    # which differs between processes; so they get their numbers here, as special tokens.
    numbered = [*special.values(), *letters, *(f"##{letter}" for letter in letters)]
    learner = Tokenizer(models.WordPiece(unk_token=special["unk_token"]))
    learner.normalizer, learner.pre_tokenizer = normalizer, pre_tokenizers.BertPreTokenizer()
    how = {"vocab_size": vocab_size, "special_tokens": numbered, "show_progress": False}
    sentences = (" ".join(s.words) for s in corpus)
    learner.train_from_iterator(sentences, trainer=trainers.WordPieceTrainer(**how))

    # In the tokenizer itself, the letters are not special tokens.
    return BertTokenizer(vocab=learner.get_vocab(), do_lower_case=False, **special)


def load_tokenizer(name: str, vocab_size: int) -> PreTrainedTokenizerBase:
    """The tokenizer of an encoder or a revision, which is a folder or a Hub name.

    InputError where it does not fit the encoder's vocab_size, or has no word pieces: where a folder
    has no vocabulary, transformers makes one of five special pieces.
    """
    folder = Path(name)
    if not folder.is_dir() and not hub.may_be_model(name):
        raise InputError(f"{name}: no such folder")
    if folder.is_dir() and not any((folder / file).exists() for file in TOKENIZER_FILES):
        raise InputError(f"{name}: holds no tokenizer (no tokenizer.json and no vocab.txt)")
    for file, shape in _FILES.items():
        if (folder / file).exists():
            read_json(folder / file, shape)
    try:
        tokenizer = _from_pretrained(name)
    except Exception as error:  # tokenizers raises no narrower class
        raise InputError(f"{name}: its tokenizer cannot be loaded: {error!r}") from None
    needed = ("cls_token", "sep_token", "unk_token")
    if missing := [token for token in needed if getattr(tokenizer, token) is None]:
        raise InputError(
            f"{name}: its tokenizer has no {' and no '.join(missing)}, which nerc puts around a "
            f"text or for a word that it lacks; take an encoder whose tokenizer has them"
        )
    if not tokenizer.is_fast:
        raise InputError(
            f"{name}: its tokenizer, {type(tokenizer).__name__}, is none of the library tokenizers "
            f"and does not tell which piece is of which word; take an encoder with a tokenizer.json"
        )
    num_special = len(tokenizer.all_special_tokens)
    if not num_special < len(tokenizer) <= vocab_size:
        raise InputError(
            f"{name}: its tokenizer has {len(tokenizer)} pieces, {num_special} of them special, "
            f"and does not fit the encoder, whose vocabulary has {vocab_size}; put the encoder's "
            f"tokenizer.json there"
        )
    numbers = sorted(tokenizer.get_vocab().values())
    if numbers[-1] >= vocab_size or len({*numbers}) < len(numbers):
        raise InputError(
            f"{name}: its tokenizer numbers pieces up to {numbers[-1]}, or two alike, wanted a "
            f"number of its own for each, below {vocab_size}, the encoder's vocab_size; put the "
            f"encoder's tokenizer.json there"
        )
    try:
        encode(_TRIAL, tokenizer, (), 64)
    except Exception as error:
        raise InputError(f"{name}: its tokenizer cannot cut a word: {error!r}") from None
    return tokenizer


def _from_pretrained(name: str) -> PreTrainedTokenizerBase:
    """The tokenizer that transformers loads; one of bytes reads a word as one after a space.

    Elsewhere than at the beginning of a text, words were like that when the encoder was trained.
    """
    # Without trust_remote_code=False, transformers asks whether to run the folder's code.
    tokenizer = AutoTokenizer.from_pretrained(name, trust_remote_code=False)
    if (splitter := _of_bytes(tokenizer)) and not splitter.add_prefix_space:
        how = {"trust_remote_code": False, "add_prefix_space": True}
        tokenizer = AutoTokenizer.from_pretrained(name, **how)  # the setting is saved with it
        _of_bytes(tokenizer).add_prefix_space = True  # classes without a splitter of their own
    return tokenizer


def _of_bytes(tokenizer: PreTrainedTokenizerBase) -> pre_tokenizers.ByteLevel | None:
    """What splits texts first, if it turns them into bytes."""
    splitter = tokenizer.backend_tokenizer.pre_tokenizer if tokenizer.is_fast else None
    if isinstance(splitter, pre_tokenizers.Sequence):
        splitter = splitter[0]
    return splitter if isinstance(splitter, pre_tokenizers.ByteLevel) else None


def tokenizer_beside(
    folder: Path, vocab_size: int, *, instead: str | None = None
) -> PreTrainedTokenizerBase:
    """The tokenizer of the revision in folder, or the one named by instead.

    A published checkpoint may hold none. Then this is the tokenizer of the encoder that its
    config.json names, or of bert-base-cased, with a warning.
    """
    if instead is not None or any((folder / file).exists() for file in TOKENIZER_FILES):
        return load_tokenizer(instead or str(folder), vocab_size)
    config = read_json(folder / "config.json", {"_name_or_path?": str})
    encoder = config.get("_name_or_path") or DEFAULT_ENCODER
    try:
        tokenizer = load_tokenizer(encoder, vocab_size)
    except InputError as error:
        raise InputError(
            f"{folder}: holds no tokenizer, and its encoder's cannot be loaded ({error}); give "
            f"--tokenizer, a folder or a Hub name"
        ) from None
    logger.warning(f"{folder}: holds no tokenizer; using that of its encoder, {encoder}")
    return tokenizer
