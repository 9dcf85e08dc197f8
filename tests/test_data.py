"""Reading: every word arrives once with its tag, or one line says why not."""

import os

import datasets
import pytest

from nerc.data import conll, sources, tags
from nerc.data.corpus import Corpus, Sentence, check_tags
from nerc.errors import InputError
from nerc.files import MOST_LINE


def read(tmp_path, content: bytes | str, **options) -> list[Sentence]:
    path = tmp_path / "train.txt"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return list(conll.read_conll(path, **options))


TWO = [
    (("EU", "rejects"), ("B-ORG", "O")),
    (("Peter", "Blackburn"), ("B-PER", "I-PER")),
]


@pytest.mark.parametrize(
    "content",
    [
        "EU B-ORG\nrejects O\n\nPeter B-PER\nBlackburn I-PER\n",
        "EU\tB-ORG\nrejects\tO\n\nPeter\tB-PER\nBlackburn\tI-PER\n",
        "EU NNP B-NP B-ORG\nrejects VBZ B-VP O\n\nPeter NNP B-NP B-PER\nBlackburn NNP I-NP I-PER\n",
        "EU   B-ORG  \nrejects O\n \t \n\n\nPeter B-PER\nBlackburn I-PER",
        "\r\nEU B-ORG\r\nrejects O\r\n\r\nPeter B-PER\r\nBlackburn I-PER\r\n",
        "\ufeffEU B-ORG\nrejects O\n\u00a0\nPeter B-PER\nBlackburn I-PER\n\n\n",
        "EU I-ORG\nrejects O\n\nPeter I-PER\nBlackburn I-PER\n",
        "EU S-ORG\nrejects O\n\nPeter B-PER\nBlackburn E-PER\n",
    ],
    ids="spaces tabs four-columns ragged crlf bom iob1 bioes".split(),
)
def test_every_form_of_a_file_is_the_same_corpus(tmp_path, content):
    assert [(s.words, s.tags) for s in read(tmp_path, content)] == TWO


def test_documents_and_lines_are_kept(tmp_path):
    content = "-DOCSTART- -X- O O\n\na O\nb O\n\nc O\n\n-DOCSTART- O\nd O\n"
    found = [(s.words, s.location, s.document) for s in read(tmp_path, content)]
    assert found == [
        (("a", "b"), "train.txt:3", 1),
        (("c",), "train.txt:6", 1),
        (("d",), "train.txt:9", 2),
    ]


def test_odd_white_space_inside_a_line_belongs_to_words(tmp_path):
    (sentence,) = read(tmp_path, "New York\tB-LOC\n\u2028x\tO\n\u00a0 O\n")
    assert sentence.words == ("New York", "\u2028x", "\u00a0")


def test_neighbours_of_iob1_stay_apart(tmp_path):
    (sentence,) = read(tmp_path, "a I-PER\nb B-PER\nc I-LOC\n")
    assert tags.entities(sentence.tags) == [("PER", 0, 1), ("PER", 1, 2), ("LOC", 2, 3)]


@pytest.mark.parametrize(
    "content, message",
    [
        ("", "train.txt: no sentence in it"),
        ("-DOCSTART- O\n\n", "train.txt: no sentence in it"),
        ("a O\nb\n", "train.txt:2: found one column, 'b'"),
        ("a O\n\nb PER\n", "train.txt:3: 'PER' in column 2 is no tag"),
        ("a O\nb B-\n", "train.txt:2: 'B-' in column 2 is no tag"),
        ("a [CLS]\n", "train.txt:1: '[CLS]' in column 2 is no tag"),
        (b"a O\nZ\xfcrich B-LOC\n", "train.txt:2: byte 0xfc at position 2 is not UTF-8"),
        ("a O\n".encode("utf-16"), "train.txt:1: byte 0xff at position 1 is not UTF-8"),
        ("a O\n".encode("utf-16"), "such as with iconv -f utf-16 -t utf-8"),
        (b"a O\nZ\xfcrich B-LOC\n", "such as with iconv -f latin1 -t utf-8"),
    ],
)
def test_a_file_that_cannot_be_read_says_where(tmp_path, content, message):
    with pytest.raises(InputError) as error:
        read(tmp_path, content)
    assert message in str(error.value)


def test_words_without_a_label_are_read_from_weak_labels_and_counted(tmp_path):
    path = tmp_path / "llm.txt"
    path.write_text("a [CLS]\nb B-PER\nc I-LOC\n")
    corpus = conll.read_conll(path, weak=True)
    assert corpus[0].tags == ("[CLS]", "B-PER", "I-LOC")
    assert "1 words with the tag [CLS], [SEP] or X" in corpus.notes[1]
    assert "1 I- tags do not continue an entity" in corpus.notes[2]


def test_iob1_is_not_called_ill_formed(tmp_path):
    path = tmp_path / "train.txt"
    path.write_text("a I-PER\nb B-PER\nc O\n")
    (summary,) = conll.read_conll(path).notes
    assert summary.endswith("IOB; PER 2")


def test_select_keeps_order_and_the_types_of_the_whole():
    corpus = Corpus.of(Sentence((str(i),), (f"B-T{i}",), f"x:{i}", 0) for i in range(5))
    part = corpus.select([3, 1])
    assert [s.location for s in part] == ["x:3", "x:1"]
    assert part.inventory() == corpus.inventory()
    assert len(corpus) == corpus.num_words == 5


def test_fingerprint_tells_words_and_tags_but_not_their_place():
    def corpus(words, labels, location="a"):
        return Corpus.of([Sentence(words, labels, location, 0)]).fingerprint()

    same = corpus(("a", "b"), ("O", "O"))
    assert same == corpus(("a", "b"), ("O", "O"), location="b")
    assert len({same, corpus(("a", "c"), ("O", "O")), corpus(("a", "b"), ("O", "B-PER"))}) == 3


def hub_rows(**columns):
    names = ["B-LOC", "O", "I-LOC"]  # an order that nobody could guess
    labels = datasets.List(datasets.ClassLabel(names=names))
    features = datasets.Features({"tokens": datasets.List(datasets.Value("string"))})
    features["ner_tags"] = labels
    return datasets.Dataset.from_dict(columns, features=features)


@pytest.mark.parametrize("odd", ["", "a\nb", "a\tb"])
def test_words_of_a_data_set_that_no_line_can_hold_are_refused(odd):
    rows = hub_rows(tokens=[["so"], ["x", odd]], ner_tags=[["O"], ["O", "O"]])
    with pytest.raises(InputError, match=r"user/set/train:1: .* is empty, or has a tab or a line"):
        sources.from_dataset(rows, "user/set/train")


def test_hub_tags_go_by_their_names():
    rows = hub_rows(
        tokens=[["-DOCSTART-"], ["New", "York"], [], ["so"]],
        ner_tags=[["O"], ["B-LOC", "I-LOC"], [], ["O"]],
    )
    corpus = sources.from_dataset(rows, "user/set/train")
    assert [(s.words, s.tags, s.location, s.document) for s in corpus] == [
        (("New", "York"), ("B-LOC", "I-LOC"), "user/set/train:1", 1),
        (("so",), ("O",), "user/set/train:3", 1),
    ]
    assert corpus.notes == ("user/set/train: 1 rows hold no word",)


@pytest.mark.parametrize("label", [-100, -1, None])
def test_hub_labels_that_are_no_class_are_refused(label):
    of_words = datasets.Sequence(datasets.ClassLabel(names=["O", "B-PER"]))
    features = datasets.Features({"tokens": datasets.Sequence(datasets.Value("string"))})
    features = datasets.Features(features | {"tags": of_words})
    rows = datasets.Dataset.from_dict({"tokens": [["a", "b"]], "tags": [[0, label]]}, features)
    with pytest.raises(InputError, match=f"s:0: the label {label} is none of the 2"):
        sources.from_dataset(rows, "s")


def test_hub_tags_may_be_strings():
    rows = datasets.Dataset.from_dict({"words": [["a"]], "tags": [["I-x"]]})
    assert sources.from_dataset(rows, "s")[0].tags == ("B-x",)


@pytest.mark.parametrize(
    "columns, message",
    [
        ({"text": ["a"]}, "has no column tokens or words, only text"),
        ({"tokens": [["a"]]}, "has no column ner_tags or tags or labels or ner"),
        ({"tokens": [["a"]], "tags": [["O", "O"]]}, "s:0: 1 words but 2 tags"),
        ({"tokens": [["a"]], "tags": [["who"]]}, "s:0: 'who' is no tag"),
        ({"tokens": [["a"]], "tags": [None]}, "s:0: 1 words but 0 tags"),
        ({"tokens": [["a", None]], "tags": [["O", "O"]]}, "s:0: not all of .* are words"),
        ({"tokens": [[]], "tags": [[]]}, "no sentence"),
    ],
)
def test_a_data_set_that_is_none_for_ner_says_so(columns, message):
    with pytest.raises(InputError, match=message):
        sources.from_dataset(datasets.Dataset.from_dict(columns), "s")


@pytest.mark.parametrize(
    "corpus, split, message",
    [
        ("/no/such/folder", "train", "no such folder"),
        ("sample:x", "train", "wanted sample or sample:SENTENCES"),
        ("sample:0", "train", "wanted sample or sample:SENTENCES"),
        ("sample:9:typo", "llm", "KIND, .* other errors: missing, spurious, type, boundary"),
        ("conll2003", "llm", "only folders have weak labels"),
        ("nowhere", "llm", "nowhere: is no folder, .* give one with llm.txt"),
        (__file__, "train", "is a file, wanted a folder"),
        ("conll2003", "train", "the Hub cannot be reached .* or sample"),
        ("user/set", "train", "the Hub cannot be reached"),
    ],
)
def test_a_corpus_that_cannot_be_had_says_what_can(corpus, split, message):
    with pytest.raises(InputError, match=message):
        sources.load(corpus, split)


@pytest.mark.parametrize("name", ["train.txt", "llm.txt", "llm.more.txt", "unlabelled.txt"])
def test_a_corpus_is_read_from_files_that_end(tmp_path, name):
    (tmp_path / "llm.txt").write_text("a O\n")
    path = tmp_path / name
    split = "llm" if name.startswith("llm") else name.removesuffix(".txt")

    def refusal() -> str:
        with pytest.raises(InputError) as error:
            sources.load(str(tmp_path), split)
        return str(error.value)

    path.unlink(missing_ok=True)
    os.mkfifo(path)
    assert refusal() == f"{path}: is a pipe, wanted a file"
    path.unlink()
    path.mkdir()
    assert refusal() == f"{path}: is a folder, wanted a file"
    path.rmdir()
    path.symlink_to("/dev/zero")
    assert refusal() == f"{path}: is a device, wanted a file"
    path.unlink()
    path.write_text(f"a O\n{'b' * MOST_LINE} O\nc O\n")
    assert refusal() == f"{path}:2: has more than 16,777,216 bytes"
    with path.open("wb") as file:
        file.truncate(2**40)  # one line of a terabyte
    assert refusal() == f"{path}:1: has no end within 134,217,728 bytes"


def test_a_name_that_no_folder_can_have_is_no_folder():
    for name in ("x" * 300, "a\0b"):
        with pytest.raises(InputError, match=r"no such folder|cannot be reached"):
            sources.load(name, "train")


@pytest.mark.parametrize("name", ["sample", "conll2003"])
def test_a_folder_with_the_name_of_a_known_corpus_is_not_passed_over(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    (tmp_path / name).mkdir()
    write(tmp_path / name, train="Kiwi B-FRUIT\n")
    with pytest.raises(InputError, match=f"--corpus {name}: .* give ./{name} for the folder"):
        sources.load(name, "train")
    assert sources.load(f"./{name}", "train").entity_types() == {"FRUIT"}
    (tmp_path / name / "train.txt").unlink()  # now it is no corpus
    if name == "sample":
        assert len(sources.load("sample", "train")) == 8000


def test_a_missing_split_names_those_there(tmp_path):
    (tmp_path / "train.txt").write_text("a O\n")
    with pytest.raises(sources.MissingSplit, match=r"has no valid.txt.*\(there: train.txt\)"):
        sources.load(str(tmp_path), "validation")


def test_the_built_in_corpus_has_the_size_asked_for():
    assert len(sources.load("sample:40", "train")) == 40
    assert len(sources.load("sample:40", "test")) == 5
    assert 0 < len(sources.load("sample:400", "llm")) < 200


def test_a_data_set_is_loaded_by_split(tmp_path):
    # The library loads a folder of parquet files as it loads a repository of them.
    (tmp_path / "data").mkdir()
    rows = hub_rows(tokens=[["New", "York"]], ner_tags=[["B-LOC", "I-LOC"]])
    for split in ("train", "test"):
        rows.to_parquet(tmp_path / "data" / f"{split}-00000-of-00001.parquet")
    (sentence,) = sources.read_hub(str(tmp_path), "train")
    assert (sentence.words, sentence.tags) == (("New", "York"), ("B-LOC", "I-LOC"))
    with pytest.raises(InputError, match="validation"):
        sources.read_hub(str(tmp_path), "validation")


def write(folder, **files):
    for name, text in files.items():
        (folder / f"{name}.txt").write_text(text)
    return str(folder)


def test_a_tag_outside_the_inventory_says_where(tmp_path):
    corpus = sources.load(write(tmp_path, train="a O\n\nb O\nc B-art\n"), "train")
    with pytest.raises(
        InputError, match=r"train.txt:3: 'B-art' of the word 'c' .* which are O, B-PER"
    ):
        check_tags(corpus, tags.inventory(["PER"]), "m")


def test_conll2003_is_all_there(conll2003):
    found = {}
    for split in ("train", "validation", "test"):
        corpus = sources.load(str(conll2003), split)
        counts = corpus.tag_counts()
        begins = sum(n for tag, n in counts.items() if tag.startswith("B-"))
        documents = len(set(corpus.table["document"].to_pylist()))
        found[split] = len(corpus), corpus.num_words, begins, documents
    # Sentences, words and entities: table 1 and 2 of Tjong Kim Sang & De Meulder (2003), where a
    # -DOCSTART- line counts as a sentence and a word.
    assert found == {
        "train": (14987 - 946, 203621, 23499, 946),
        "validation": (3466 - 216, 51362, 5942, 216),
        "test": (3684 - 231, 46435, 5648, 231),
    }
    llm = sources.load(str(conll2003), "llm")
    assert len(llm) == 2037 and llm.num_words == 17218
