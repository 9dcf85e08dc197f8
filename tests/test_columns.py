"""Files in columns, as people have them: each is read as it is meant, or refused with its line."""

import json
import random
from collections import Counter

import pytest
from conftest import SHARED, refused, small

import evaluate
import train
from nerc.commands import predict
from nerc.data import conll
from nerc.data import texts as read_texts
from nerc.data.corpus import Corpus
from nerc.errors import InputError

LOC = (("Oslo", "is"), ("B-LOC", "O"))


def read(tmp_path, content: str, **options) -> Corpus:
    path = tmp_path / "train.txt"
    path.write_text(content, encoding="utf-8", newline="")
    return conll.read_conll(path, **options)


def pairs(corpus: Corpus) -> list[tuple]:
    return [(sentence.words, sentence.tags) for sentence in corpus]


@pytest.mark.parametrize(
    "content, columns",
    [
        ("1\tOslo\tB-LOC\n2\tis\tO\n\n1\tOslo\tB-LOC\n2\tis\tO\n", None),  # an index
        ("0 Oslo B-LOC\n1 is O\n\n0 Oslo B-LOC\n1 is O\n", None),
        ("1\tOslo\tB-LOC\t-\n2\tis\tO\t-\n\n1\tOslo\tB-LOC\t-\n2\tis\tO\t-\n", None),
        ("# a = b c\nOslo B-LOC\nis O\n\n# text = Oslo is\nOslo B-LOC\nis O\n", None),
        ("#\tid 1\tO b\nOslo\tB-LOC\nis\tO\n\nOslo\tB-LOC\nis\tO\n", None),
        ("en:Oslo B-LOC\nen:is O\n\nen:Oslo B-LOC\nen:is O\n", None),  # WikiANN
        ("Oslo NNP B-NP B-LOC\nis VBZ B-VP O\n\nOslo NNP B-NP B-LOC\nis VBZ B-VP O\n", None),
        ("Oslo B-LOC _\nis O _\n\nOslo B-LOC _\nis O _\n", None),
        ("Oslo B-LOC\r\nis O\r\n\r\nOslo B-LOC\r\nis O\r\n", None),
        ("\ufeffOslo B-LOC\nis O\n\n\ufeffOslo B-LOC\nis O\n", None),  # two files, joined
        ("Oslo S-LOC\nis O\n\nOslo U-LOC\nis O\n", None),
        ("TOKEN NER\nOslo B-LOC\nis O\n\nOslo B-LOC\nis O\n", "TOKEN,NER"),
        ("NER TOKEN\nB-LOC Oslo\nO is\n\nB-LOC Oslo\nO is\n", "TOKEN,NER"),
        ("T\tA\tB\n\nOslo\tB-LOC\tO\nis\tO\tO\n\nOslo\tB-LOC\tO\nis\tO\tO\n", "T,A"),
        ("B-LOC Oslo\nO is\n\nB-LOC Oslo\nO is\n", "2,1"),
        ("a Oslo O B-LOC\nb is O O\n\na Oslo O B-LOC\nb is O O\n", "2,4"),
        ("Oslo LOC\nis O\n\nOslo LOC\nis O\n", "1,2"),  # types without a prefix
        ("TOKEN NER\nOslo LOC\nis O\n\nOslo LOC\nis O\n", "TOKEN,NER"),
    ],
)
def test_what_is_certain_is_read(tmp_path, content, columns):
    assert pairs(read(tmp_path, content, columns=columns)) == [LOC, LOC]


@pytest.mark.parametrize(
    "content, fault",
    [
        ("Acme B-A,B-B\n", "train.txt:1: 'B-A,B-B' holds several tags"),
        ("we O\nZed B-A|B-B\n", "train.txt:2: 'B-A|B-B' holds several tags"),
        ("Acme B-A;O\n", "holds several tags"),
        ("1 a O B-X\n2 b B-Y O\n3 c O O\n", "several columns hold tags (column 3: Y; column 4: X)"),
        ("a B-X O\nb O O\n", "column 2: X; column 3: O alone), so give --columns 1,2 or 1,3"),
        (
            "1 O\n2 B-X\n3 O\n",
            "column 1 counts words, or they are numbers; give --columns",
        ),
        ("1 a O\n", "column 1 counts words, or they are numbers"),
        ("1 a O\n2 b O\n\n1 c B-X\n3 d O\n", "column 1 holds nothing but numbers"),
        ("".join(f"{i} w B-X\n" for i in range(7, 20)), "column 1 holds nothing but numbers"),
        ("in\tIN\tO\n\tNNP\tB-LOC\n", "train.txt:2: the word is empty"),
        ("in\tO\n\tO\n", "train.txt:2: the word is empty"),
        (
            "went O\n\u00ad\u200b O\n",
            "the word '\\xad\\u200b' has no character that",
        ),
        ("New York B-LOC\nis O\n", "train.txt:2: found 2 columns, wanted 3, as in the first line"),
        ("is O\nNew York B-LOC\n", "train.txt:2: found 3 columns, wanted 2"),
        ("is O\n# id = 1\nOslo B-LOC\n", "a comment stands before a sentence, not in it"),
        ("a O\rb O\r", "train.txt:1: holds a carriage return"),
        ("a O\nb O\rc O\n", "train.txt:2: holds a carriage return"),
        ("TOKEN NE\nOslo B-LOC\n", "looks like a header, as 'NE' in column 2 is no tag, and the"),
        ("TOKEN NE\nOslo B-LOC\n", "below it are; give --columns TOKEN,NE, or, if it is a word,"),
        ("SENT TOKEN POS NER LEMMA\n1 Ada NNP B-PER ada\n1 ran VB O run\n", "TOKEN,NER, or, if"),
        ("T NE N2\na B-X O\nb O B-Y\n", "give --columns T,NE or T,N2, or, if it is a word"),
        (
            "T\tNER tag\na\tB-X\n",
            "as 'NER tag' in column 2 is no tag, and the cells below it are; delete it",
        ),
        ("Kiwi B-\nTe B-LOC\n", "train.txt:1: 'B-' in column 2 is no tag, wanted O or a tag"),
        ("1 2\nAda B-PER\n", "; delete it, or, if it is a word"),
        ("-DOCSTART- O\n\nT N\nAda B-PER\n", "; delete it, or, if it is a word"),
        ("T T\nAda B-PER\n", "; delete it, or, if it is a word"),
        (
            "Ada\tO\tNNP\nran\tO\tVB\n",
            "before a type; if column 2 holds the tags, give --columns 1,2",
        ),
        ("Ada\tO\t.\n", "B-PER; if column 2 holds the tags, give --columns 1,2"),
        (
            "Ada x NNP\nran x VB\n",
            "before a type; if another column holds the tags, give --columns",
        ),
        ("Oslo LOC\nis O\n", "'LOC' in column 2 is no tag, wanted B- or I- before a type"),
        ("BRCA1 B\ngene I\n", "'B' in column 2 is no tag, wanted a type after it"),
        ("a B-X:0.5\n", "has probabilities, which only weak labels (llm.txt) may have"),
        ("en:a O\n\nen:b B-X\n\n" * 600 + "c O\n", "the word 'c' lacks 'en:'"),
        ("a O\nb\n", "train.txt:2: found one column, 'b'"),
        ("a b B-X\n", "--columns 1,9: the first line has 3 columns, from 1"),
        (
            "a b B-X\n\na b O\n",
            "--columns TOKEN,NER: the first line has no cell 'TOKEN', only a, b, B-X",
        ),
    ],
)
def test_what_is_not_certain_is_refused_with_a_way_on(tmp_path, content, fault):
    columns = fault.split()[1].rstrip(":") if fault.startswith("--columns") else None
    with pytest.raises(InputError) as error:
        read(tmp_path, content, columns=columns)
    assert fault in str(error.value)


BARE = "Ann PER\nLee PER\nand O\nBo PER\nKo ORG\n\nAnn PER\nsaid O\n"


def test_a_run_of_one_type_without_prefixes_is_an_entity_where_columns_are_named(tmp_path):
    corpus = read(tmp_path, BARE, columns="1,2")
    assert [sentence.tags for sentence in corpus] == [
        ("B-PER", "I-PER", "O", "B-PER", "B-ORG"),
        ("B-PER", "O"),
    ]
    summary, note = corpus.notes
    assert summary.endswith("column 2 of 2, no prefixes; PER 3, ORG 1")
    assert note == (
        f"{tmp_path / 'train.txt'}: the tags have no prefix, so each run of words with one type is "
        f"an entity; 1 of 4 have several words and may be neighbours"
    )


@pytest.mark.parametrize(
    "content, columns, fault",
    [
        (BARE, None, "'PER' in column 2 is no tag, wanted B- or I- before a type; if these "),
        (BARE, None, "these are types without a prefix, give --columns 1,2"),
        (BARE + "\nOslo B-LOC\n", "1,2", "'PER' in column 2 is no tag, wanted B- or I- before"),
        ("Ann NNP\nsaid VBD\n", "1,2", "train.txt:1: 'NNP' in column 2 is no tag"),  # no O
        ("Ann NNP\nO UH\nsaid O\n. .\n", "1,2", "'NNP' in column 2 is no tag"),
        ("BRCA B\ngene I\nis O\n", "1,2", "'B' in column 2 is no tag, wanted a type after it"),
        ("WORD TAG\n" + BARE, "1,2", "'WORD' with 'TAG', may be a header; if so, give --columns"),
        ("\n".join([BARE] * 1000) + "\nOslo B-LOC\n", "1,2", "'B-LOC', wanted O or a type without"),
    ],
)
def test_types_without_prefixes_are_refused_where_they_are_not_certain(
    tmp_path, content, columns, fault
):
    with pytest.raises(InputError) as error:
        read(tmp_path, content, columns=columns)
    assert fault in str(error.value)


@pytest.mark.parametrize(
    ("content", "lines"),
    [
        ("see O\n-DOCSTART- O\nhere O\n", [2]),
        ("see O\n-DOCSTART- B-MISC\nhere O\n\n-DOCSTART- B-PER\n\nx O\n", [2, 5]),
        ("-DOCSTART- B-PER\nAda I-PER\nran O\n", [1]),
        ("-DOCSTART- S-PER\n", [1]),
        ("1 a x O\n2 b x O\n3 c x O\n-DOCSTART- O\n", [4]),
    ],
)
def test_a_line_that_begins_no_document_is_refused(tmp_path, content, lines):
    with pytest.raises(InputError) as error:
        read(tmp_path, content)
    places = [f"{tmp_path / 'train.txt'}:{line}: -DOCSTART- begins a document" for line in lines]
    assert all(place in str(error.value) for place in places) and "more" not in str(error.value)
    rows = [(f"in:{n}", line, None) for n, line in enumerate(content.split("\n"), start=1)]
    errors = [(item.location, item.error) for item in read_texts.of_conll(rows, None) if item.error]
    assert [location for location, _ in errors] == [f"in:{line}" for line in lines]
    assert all("-DOCSTART- begins a document" in error for _, error in errors)


@pytest.mark.parametrize(
    "content",
    [
        "-DOCSTART- -X- -X- O\n\na O\n\n-DOCSTART- -X- O O\n\nb O\n",
        "-DOCSTART- O\na O\n\n\n# id = 2\n-DOCSTART-\nb O\n",
        "-DOCSTART- -X- O O\na O\n-DOCSTART- -X- O O\nb O\n",
        "-DOCSTART- (1 EU)\na O\n\n-DOCSTART- (2 UN)\nb O\n",  # AIDA
    ],
)
def test_published_lines_that_begin_documents_are_read(tmp_path, content):
    found = [(sentence.words, sentence.document) for sentence in read(tmp_path, content)]
    assert found == [(("a",), 1), (("b",), 2)]
    rows = [("in", line, None) for line in content.split("\n")]
    assert [item.words for item in read_texts.of_conll(rows, None)] == [("a",), ("b",)]


def test_all_faults_are_counted_and_the_first_are_shown(tmp_path):
    with pytest.raises(InputError) as error:
        read(tmp_path, "a O\n" + "b PER\n" * 5 + "\nc O\nd\n")
    assert [str(error.value).count(f"train.txt:{n}:") for n in range(1, 9)] == [
        0,
        1,
        1,
        1,
        *[0] * 4,
    ]
    assert str(error.value).endswith("; 3 more faults")


def test_a_file_says_what_was_understood_of_it(tmp_path):
    content = (
        "-DOCSTART- O\n\n# id = 1\n1\tOslo\tI-LOC\n2\tis\tO\n\n-DOCSTART- O\n\n1\tAnn\tI-PER\n"
    )
    summary, comments = read(tmp_path, content).notes
    assert summary == (
        f"{tmp_path / 'train.txt'}: 2 sentences, 3 words, 2 documents; word in column 2, tag in "
        f"column 3 of 3, IOB1; PER 1, LOC 1"
    )
    assert comments.startswith(f"{tmp_path / 'train.txt'}:3: 1 comment line, the first")
    weak = read(tmp_path, "a I-PER:0.9\nb B-LOC\n\nc I-ORG\n", weak=True).notes[0]
    assert weak.endswith("IOB; PER 1, ORG 1, LOC 1")


@pytest.mark.parametrize(
    ("prefixes", "is_mixed"),
    [("BI", 0), ("BIES", 0), ("BILU", 0), ("BMES", 0), ("I", 0), ("BSU", 1), ("EL", 1), ("IM", 1)],
)
def test_prefixes_of_several_schemes_are_named(tmp_path, prefixes, is_mixed):
    notes = read(tmp_path, "".join(f"a {prefix}-PER\n" for prefix in prefixes)).notes
    shown = ", ".join(f"{prefix}-" for prefix in prefixes)
    assert ("several schemes" in notes[0]) == is_mixed
    assert any(f"the prefixes {shown} belong to several" in note for note in notes) == is_mixed


def test_a_name_of_two_columns_is_refused(tmp_path):
    content = "TOKEN TOKEN NER\nAda x B-PER\n"
    with pytest.raises(InputError, match="TOKEN,NER: the first line has 2 cells 'TOKEN'; rename"):
        read(tmp_path, content, columns="TOKEN,NER")
    rows = [("in", line, None) for line in content.split("\n")]
    with pytest.raises(InputError, match="2 cells 'TOKEN'"):
        list(read_texts.of_conll(rows, "TOKEN"))


@pytest.mark.parametrize("odd", ["PER,", "Per", "per", "PER."])
def test_types_that_look_alike_are_named(tmp_path, odd):
    for weak in (False, True):
        notes = read(tmp_path, f"a B-PER\nb B-LOC\nc B-{odd}\n", weak=weak).notes
        named = ", ".join(map(repr, sorted(["PER", odd])))
        assert any("different types" in note and named in note for note in notes)


def test_the_cases_of_public_bug_reports_are_read_or_refused(tmp_path):
    cases = SHARED / "cases"
    if not cases.is_dir():
        pytest.skip(f"the cases are not at {cases}")
    refused_files = {
        "01-multi-label-tags/train.txt": ":2: 'B-corporation,B-product' holds several tags",
        "03-index-column/train.txt": "so give --columns 2,3 or 2,4",
        "03-index-column/valid.txt": "column 1 counts words",
        "07-empty-word-cell/train.txt": ":2: the word is empty",
        "07-empty-word-cell/two_columns.txt": ":2: the word is empty",
        "15-scheme-and-comment-messages/bio.txt": "wanted a type after it",
        "15-scheme-and-comment-messages/hipe.txt": "give --columns",
        "15-scheme-and-comment-messages/plain.txt": "wanted B- or I- before a type",
        "20-holds/tab_word.txt": ":2: the word is empty",
        "20-holds/nbsp_separator.txt": ":1: found one column",
    }
    for name, fault in refused_files.items():
        with pytest.raises(InputError) as error:
            conll.read_conll(cases / name)
        assert fault in str(error.value), name
    gold = pairs(conll.read_conll(cases / "03-index-column/train.txt", columns="2,3"))
    assert (
        gold[1] == (("Kieler", "Werft", "baut"), ("B-ORG", "I-ORG", "O")) or gold[1][0][0] == "Die"
    )
    uner = conll.read_conll(cases / "04-predict-comments-and-index/in.conll")
    words = ("Anna", "Osaka", "visited", "Reuters")
    assert pairs(uner) == [(words, ("B-PER", "I-PER", "O", "B-ORG"))]
    hipe = conll.read_conll(cases / "15-scheme-and-comment-messages/hipe.txt", columns="TOKEN,NE")
    assert pairs(hipe) == [(("Oslo",), ("B-loc",))]
    bmes = conll.read_conll(cases / "15-scheme-and-comment-messages/bmes.txt")
    assert bmes[0].tags == ("B-PER", "I-PER", "I-PER")
    variants = conll.read_conll(cases / "11-type-variants/llm.txt", weak=True)
    assert "'LOC.'" in variants.notes[1] and "'PER,'" in variants.notes[1]


# ------------------------------------------------------------ commands


def test_a_corpus_with_other_columns_is_learnt_evaluated_and_tagged(
    folder, encoder, tmp_path, capsys
):
    corpus = tmp_path / "corpus"
    corpus.mkdir()
    for path in folder.glob("*.txt"):
        lines = []
        for place, line in enumerate(path.read_text(encoding="utf-8").split("\n")):
            word, _, tag = line.rpartition(" ")
            is_word = word and word != "-DOCSTART-"
            lines.append(f"{place}\t{word}\t{tag}\tB-OTHER" if is_word else line)
        dressed = "\n".join(["id\tTOKEN\tNER\tNESTED", *lines])
        plain = path.name == "llm.txt"
        (corpus / path.name).write_text(path.read_text() if plain else dressed, encoding="utf-8")
    flags = [*small(corpus, encoder), "--data", "gold", "--repo", str(tmp_path / "models")]
    assert "give --columns" in refused(train, capsys, *flags)
    train.main([*flags, "--columns", "TOKEN,NER"])
    train.main([*small(folder, encoder), "--repo", str(tmp_path / "models"), "--revision", "plain"])
    capsys.readouterr()
    store = ["--repo", str(tmp_path / "models"), "--num-threads", "1"]
    evaluate.main([*store, "--revision", "model_primary", "plain", "--split", "test"])
    reports = [
        json.loads((tmp_path / "models" / name / "metrics.json").read_text())
        for name in ("model_primary", "plain")
    ]
    assert reports[0] == reports[1] and "tag in column 3 of 4" in capsys.readouterr().out
    texts = [tmp_path / "plain.jsonl", tmp_path / "dressed.jsonl"]
    tag = [*store, "--format", "conll"]
    predict.main([*tag, "--input", str(folder / "test.txt"), "--output", str(texts[0])])
    tag += ["--columns", "TOKEN"]
    predict.main([*tag, "--input", str(corpus / "test.txt"), "--output", str(texts[1])])
    assert texts[0].read_text() == texts[1].read_text()


def test_predict_says_that_it_cuts_into_characters(store, tmp_path, capsys):
    (tmp_path / "in.txt").write_text("in Paris\n東京 x\n巴黎\n")
    flags = ["--repo", str(store), "--num-threads", "1", "--input", str(tmp_path / "in.txt")]
    predict.main(flags)
    out, err = capsys.readouterr()
    assert err.count("cut into characters") == 1 and "in.txt:2: is in a script without" in err
    assert len(out.splitlines()) == 3


def test_predict_reads_comments_and_refuses_an_index(store, tmp_path, capsys):
    path = tmp_path / "in.conll"
    indexed = "1\tAnna\tO\t-\n2\tOsaka\tO\t-\n3\tmet\tO\t-\n"
    comments = "# sent_id = 1\n# text = Anna Osaka met\n"
    path.write_text(f"{comments}{indexed}\n#hashtag\tO\nParis\tO\n")
    out = tmp_path / "out.jsonl"
    flags = ["--repo", str(store), "--format", "conll", "--num-threads", "1"]
    flags += ["--input", str(path), "--output", str(out)]
    with pytest.raises(SystemExit) as stop:
        predict.main(flags)
    assert stop.value.code == 2 and "1 input could not be read" in capsys.readouterr().err
    bad, good = map(json.loads, out.read_text().splitlines())
    assert bad["error"].startswith(f"{path}:3: column 1 counts the words; say by --columns")
    assert good["text"] == "#hashtag Paris"
    path.write_text(comments + indexed)
    predict.main([*flags, "--columns", "2"])
    assert json.loads(out.read_text())["text"] == "Anna Osaka met"


@pytest.mark.parametrize(
    ("sentences", "are_read"),
    [
        (["1 Hello,2 Berlin", "1 This,2 is,3 Paris"], [False, False]),
        (["1 Hello", "1 This,2 is", "1 Bye"], [False, False, False]),
        (["0 Hello,1 Berlin"], [False]),
        (["1-2 don't,1 do,2 n't", "1 Hi,1.1 there"], [False, False]),  # CoNLL-U
        (["Ann O", "1 O", "1 O,2 O"], [True, True, False]),
        (["1,2,3", "1"], [True, True]),  # one column holds words
        (["1 O,7 O", "2 O,3 O", "1. O,2. O"], [True, True, True]),
    ],
)
def test_numbers_that_count_the_words_of_all_texts_so_far_are_not_tagged(sentences, are_read):
    lines = [line for text in sentences for line in [*text.split(","), ""]]
    rows = [(f"in:{number}", line, None) for number, line in enumerate(lines, start=1)]
    items = list(read_texts.of_conll(rows, None))
    assert [item.error is None for item in items] == are_read
    assert all("--columns" in item.error for item in items if item.error)
    assert all(item.error is None for item in read_texts.of_conll(rows, "1"))


def test_predict_wants_one_column(capsys):
    said = refused(predict, capsys, "--format", "conll", "--columns", "2,4")
    assert "--columns must be one column, such as 2 or TOKEN, not '2,4'" in said


# ------------------------------------------------------------ random dress

WORDS = (
    "Oslo is # -- B-LOC O 1 2 17 a:b é 東京 \u200dx don't \" , ' <b> _ - X [CLS] -X- en:a".split()
)
POS = "NNP NN _ - 1 I O VBZ B-NP O".split()


def in_scheme(tags: tuple[str, ...], scheme: str) -> list[str]:
    """IOB2 tags in another scheme."""
    found = []
    for before, tag, after in zip(("O", *tags), tags, (*tags[1:], "O"), strict=False):
        kind, type_ = tag[0], tag[1:]
        goes_on = after == f"I{type_}"
        if scheme == "iob1" and kind == "B" and before[1:] != type_:
            kind = "I"
        elif scheme in ("bioes", "bilou", "bmes") and kind != "O":
            single, last = {"bioes": "SE", "bilou": "UL", "bmes": "SE"}[scheme]
            middle = "M" if scheme == "bmes" else "I"
            kind = ("B" if goes_on else single) if kind == "B" else (middle if goes_on else last)
        found.append(f"{kind}{type_}")
    return found


def random_sentence(draw: random.Random) -> tuple[tuple, tuple]:
    words, tags = [], []
    while not words or draw.random() < 0.7:
        size = draw.choice((1, 1, 2, 3))
        type_ = draw.choice(("O", "O", "PER", "LOC", "A-B", "x.y"))
        words += draw.choices(WORDS, k=size)
        tags += ["O"] * size if type_ == "O" else [f"B-{type_}", *[f"I-{type_}"] * (size - 1)]
    return tuple(words), tuple(tags)


def dressed(draw: random.Random) -> tuple[str, str | None, list[tuple]]:
    """A file in random dress, the --columns for it, and the sentences with their documents."""
    separator, end = draw.choice(("\t", " ", "  ")), draw.choice(("\n", "\r\n"))
    scheme = draw.choice(("iob1", "iob2", "iob2", "bioes", "bilou", "bmes"))
    has_index, has_header, has_prefix = (draw.random() < p for p in (0.2, 0.15, 0.1))
    before, after = draw.choice((0, 0, 1, 2)), draw.choice((0, 0, 0, 1))
    drawn = [random_sentence(draw) for _ in range(draw.randint(1, 6))]
    has_prefix &= len({word for words, _ in drawn for word in words}) > 1
    lines, sentences, document = [], [], 0
    names = ["id"] * has_index + ["word"] + [f"p{i}" for i in range(before)] + ["tag"]
    names += [f"q{i}" for i in range(after)]
    lines += [separator.join(names)] * has_header
    for words, tags in drawn:
        if draw.random() < 0.2:
            lines += ["-DOCSTART- -X- O", ""]
            document += 1
        if draw.random() < 0.2:
            lines.append(draw.choice(("# id = 1", "# text = Oslo is", "#\tx y", "#id 3")))
        sentences.append((words, tags, document))
        for i, (word, tag) in enumerate(zip(words, in_scheme(tags, scheme), strict=True), start=1):
            cells = [str(i)] * has_index + [f"en:{word}" if has_prefix else word]
            cells += [*draw.choices(POS, k=before), tag, *draw.choices(POS, k=after)]
            lines.append(separator.join(cells) + draw.choice(("", "", " ")))
        lines += [draw.choice(("", " "))] * draw.choice((1, 1, 2))
    while lines and not lines[-1].strip() and draw.random() < 0.5:
        lines.pop()
    place = names.index("word") + 1, names.index("tag") + 1
    columns = draw.choice((None, "word,tag" if has_header else f"{place[0]},{place[1]}"))
    return draw.choice(("", "\ufeff")) + end.join(lines), columns, sentences


@pytest.mark.parametrize("runs", [1500, pytest.param(10_000, marks=pytest.mark.slow)])
def test_a_corpus_in_any_dress_is_read_back_or_refused(tmp_path, runs):
    outcomes: Counter[str] = Counter()
    for seed in range(runs):
        draw = random.Random(seed)
        content, columns, sentences = dressed(draw)
        try:
            found = read(tmp_path, content, columns=columns)
        except InputError:
            outcomes["refused"] += 1
            continue
        outcomes["read"] += 1
        assert [(s.words, s.tags, s.document) for s in found] == sentences, (seed, content)
    assert outcomes["read"] > 0.5 * runs and outcomes["refused"] < 0.5 * runs, outcomes
