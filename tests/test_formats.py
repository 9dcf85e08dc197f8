"""Formats of annotated text: what is written is read back, and every fault has its place."""

import json
import re
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path

import datasets
import pytest
from conftest import refused

from nerc.__main__ import main
from nerc.annotation import convert
from nerc.annotation.examples import Example, Source, Target, cutter, of_tags
from nerc.annotation.exchange import FORMATS
from nerc.annotation.tools import label_config
from nerc.commands import convert as command
from nerc.data.conll import read_conll
from nerc.data.words import Text
from nerc.errors import InputError


def content(examples: list[Example]) -> list[tuple]:
    return [(Text(e.text, e.words).words, e.tags, e.document, e.id) for e in examples]


def read(path: Path, name: str, columns: str | None = None) -> tuple[list[Example], list[str]]:
    """The sentences of a file, and the notes and changes that are told."""
    source = Source(path, columns)
    examples = convert.read(source, name)
    sentences, changes = convert.sentences_of(examples, cutter("rules"), source)
    return sentences, source.notes + changes


def fault(path: Path, name: str, columns: str | None = None) -> str:
    with pytest.raises(InputError) as error:
        read(path, name, columns)
    assert "\n" not in str(error.value)
    return str(error.value).replace(f"{path}", "IN")


def write(examples: list[Example], path: Path, name: str, scheme: str = "iob2") -> None:
    types = {span.type for example in examples for span in example.spans}
    if not FORMATS[name].suffix:
        path.mkdir()
    FORMATS[name].write(examples, Target(path, scheme, inventory=tuple(sorted(types))))


# ------------------------------------------------------------ there and back


@pytest.mark.slow
@pytest.mark.parametrize("name", FORMATS)
def test_the_shared_corpus_comes_back_from_each_format_as_it_was(name, conll2003, tmp_path):
    if name == "spacy":
        pytest.importorskip("spacy", reason="spaCy is not installed")
    text = str(conll2003 / "train.txt")
    main(["convert", text, str(tmp_path / "there"), "--to", name])
    main(["convert", str(tmp_path / "there"), str(tmp_path / "back.txt"), "--from", name])
    one, two = read_conll(text), read_conll(tmp_path / "back.txt")
    for column in ("words", "tags", "document"):
        assert one.table[column].to_pylist() == two.table[column].to_pylist()
    begun = [tag[2:] for tags in two.table["tags"].to_pylist() for tag in tags if tag[0] == "B"]
    assert Counter(begun) == {"PER": 6600, "ORG": 6321, "LOC": 7140, "MISC": 3438}


def test_data_that_is_split_has_all_types_in_each_file(tmp_path):
    rows = [(["Maria"], ["B-PER"]), (["Rome"], ["B-LOC"]), (["sings"], ["O"])]
    parts = {
        split: [of_tags(Text.of_words(words), tags, "here", split, None)]
        for split, (words, tags) in zip(convert.SPLITS, rows, strict=True)
    }
    assert len(list(convert.write(parts, tmp_path / "data", "hub", "bioes"))) == 3
    loaded = datasets.load_dataset(str(tmp_path / "data"), cache_dir=str(tmp_path / "cache"))
    assert set(loaded) == {"train", "validation", "test"}
    names = "O B-PER I-PER E-PER S-PER B-LOC I-LOC E-LOC S-LOC".split()
    for split, (words, _) in zip(loaded, rows, strict=True):
        assert loaded[split].features["ner_tags"].feature.names == names
        assert loaded[split][0]["tokens"] == words
    assert loaded["train"][0]["ner_tags"] == [names.index("S-PER")]


# ------------------------------------------------------------ treebanks

CONLLU = """# newdoc id = one
# sent_id = s1
# text = El vino  del Duero, ¡va!
1\tEl\tel\tDET\t_\t_\t2\tdet\t_\tNE=O
2\tvino\tvino\tNOUN\t_\t_\t0\troot\t_\t_
3-4\tdel\t_\t_\t_\t_\t_\t_\t_\t_
3\tde\tde\tADP\t_\t_\t5\tcase\t_\t_
4\tel\tel\tDET\t_\t_\t5\tdet\t_\tner=I-LOC
5\tDuero\tDuero\tPROPN\t_\t_\t2\tnmod\t_\tNER=I-LOC|SpaceAfter=No
5.1\tva\tir\tVERB\t_\t_\t_\t_\t0:root\tNER=B-PER
6\t,\t,\tPUNCT\t_\t_\t2\tpunct\t_\t_
7\t¡\t¡\tPUNCT\t_\t_\t2\tpunct\t_\tSpaceAfter=No
8\tva\tir\tVERB\t_\t_\t2\tconj\t_\tSpaceAfter=No
9\t!\t!\tPUNCT\t_\t_\t2\tpunct\t_\t_

# newdoc
# text = Other words
1\tVa\tir\tVERB\t_\t_\t0\troot\t_\tSpaceAfter=No
2\t.\t.\tPUNCT\t_\t_\t1\tpunct\t_\t_
"""


def test_multiword_tokens_empty_nodes_and_blanks_of_conllu(tmp_path):
    (tmp_path / "in.conllu").write_text(CONLLU)
    (first, second), told = read(tmp_path / "in.conllu", "conllu")
    assert content([first, second]) == [
        (
            ("El", "vino", "del", "Duero", ",", "¡", "va", "!"),
            ("O", "O", "B-LOC", "I-LOC", "O", "O", "O", "O"),
            *("one", "s1"),
        ),
        (("Va", "."), ("O", "O"), "2", None),
    ]
    assert (first.text, second.text) == ("El vino  del Duero, ¡va!", "Va.")
    assert [note.partition(": ")[2] for note in told] == [
        "multiword tokens that are read as one word each, as they are written: 1",
        "nodes that are not written (such as 8.1) and are left out: 1",
        "sentences with other words than their comment '# text', whose words count: 1",
    ]


def test_the_library_conllu_reads_what_is_written(tmp_path):
    conllu = pytest.importorskip("conllu", reason="conllu is not installed")
    (tmp_path / "in.conllu").write_text(CONLLU)
    write(read(tmp_path / "in.conllu", "conllu")[0], tmp_path / "out", "conllu", "bioes")
    first, second = conllu.parse((tmp_path / "out").read_text())
    assert first.metadata == {
        **{"newdoc id": "one", "sent_id": "s1"},
        "text": "El vino del Duero, ¡va!",
    }
    assert [token["form"] for token in first][2:4] == ["del", "Duero"]
    assert [token["misc"] for token in first][2:4] == [
        {"NER": "B-LOC"},
        {"NER": "E-LOC", "SpaceAfter": "No"},
    ]
    assert [token["misc"].get("SpaceAfter") for token in second] == ["No", None]


def test_universal_ner_as_it_is_published(tmp_path):
    """Its English has lines of three columns and B-O; its Danish other tags in column four."""
    (tmp_path / "in.iob2").write_text(
        "# newdoc id = blog\n# sent_id = blog-1\n# text = The AP's story.\n1\tThe\tB-O\t-\tann\n"
        "2\tAP\tB-ORG\t-\tann\n3\t's\tO\n4\tstory\tO\tO#O\ts\n5\t.\tO\n\t\n"
    )
    (sentence,), told = read(tmp_path / "in.iob2", "universal-ner")
    words, tags = ("The", "AP", "'s", "story", "."), ("O", "B-ORG", "O", "O", "O")
    assert content([sentence]) == [(words, tags, "blog", "blog-1")]
    assert sentence.text == "The AP's story."
    assert [note.partition(": ")[2] for note in told] == ["tags B-O and I-O that are read as O: 1"]


# ------------------------------------------------------------ CSV


@pytest.mark.parametrize(
    ("text", "columns"),
    [
        # The table of the Groningen Meaning Bank that is often used: the first row has the number.
        (
            'Sentence #,Word,POS,Tag\nSentence: 1,NA,NN,B-org\n,"""",X,O\n,"1,000",CD,O\n'
            "Sentence: 2,null,NN,O\n",
            None,
        ),
        ('word;ner\r\nNA;B-org\r\n"""";O\r\n1,000;O\r\n;\r\nnull;O\r\n', None),
        ('sent_id,token,a,b\n7,NA,O,U-org\n7,"""",O,O\n7,"1,000",O,O\n8,null,O,O\n', "token,b"),
        ('B-org\tNA\nO\t""""\nO\t1,000\n\nO\tnull\n', "2,1"),
    ],
)
def test_tables_of_words(text, columns, tmp_path):
    (tmp_path / "in.csv").write_text(text, newline="")
    sentences, told = read(tmp_path / "in.csv", "csv", columns)
    assert [row[:2] for row in content(sentences)] == [
        (("NA", '"', "1,000"), ("B-org", "O", "O")),
        (("null",), ("O",)),
    ]
    assert told == []


@pytest.mark.parametrize("name", ["conll", "csv"])
def test_types_without_prefixes_are_read_from_the_columns_that_are_named(tmp_path, name):
    text = "Ann,NNP,PER\nLee,NNP,PER\nran,VBD,O\n,,\nOslo,NNP,LOC\nBo,NNP,PER\n"
    wanted = [
        (("Ann", "Lee", "ran"), ("B-PER", "I-PER", "O")),
        (("Oslo", "Bo"), ("B-LOC", "B-PER")),
    ]
    for header, columns in [("", "1,3"), ("Word,POS,Tag\n", "Word,Tag"), ("w,p,kind\n", "w,kind")]:
        rows = header + text
        if name == "conll":
            rows = rows.replace(",,\n", "\n").replace(",", "\t")
        (tmp_path / "in").write_text(rows)
        sentences, told = read(tmp_path / "in", name, columns)
        assert [row[:2] for row in content(sentences)] == wanted
        assert "1 of 3 have several words and may be neighbours" in "".join(told)
    (tmp_path / "in").write_text(rows)
    assert "kind" in fault(tmp_path / "in", name, "1,3")  # a name of a column, or a type


def test_a_skipped_sentence_stands_beside_types_without_prefixes(tmp_path):
    (tmp_path / "in").write_text("Ann PER\nran O\n\nOslo X\nsaid X\n\nBo PER\n")
    source = Source(tmp_path / "in", "1,2")
    examples = list(FORMATS["conll"].read(source))
    assert [(e.answer, e.tags) for e in examples] == [
        ("accept", ("B-PER", "O")),
        ("skip", ("O", "O")),
        ("accept", ("B-PER",)),
    ]


def test_documents_and_names_in_a_table(tmp_path):
    text = "document,sentence,sent_id,word,tag\nd,1,x,a,O\nd,1,x,b,O\nd,2,,c,O\ne,2,,d,O\n"
    (tmp_path / "in.csv").write_text(text)
    sentences, _ = read(tmp_path / "in.csv", "csv")
    assert [(words, document, id) for words, _, document, id in content(sentences)] == [
        (("a", "b"), "d", "x"),
        (("c",), "d", None),
        (("d",), "e", None),
    ]
    write(sentences, tmp_path / "out.csv", "csv")
    assert (tmp_path / "out.csv").read_text() == text.replace("e,2", "e,3")


# ------------------------------------------------------------ brat


def test_brat_folders_as_brat_writes_them(tmp_path):
    """Entities that a line end divides, in pieces, overlapping; events, and what else there is."""
    (tmp_path / "in" / "b").mkdir(parents=True)
    news = tmp_path / "in" / "b" / "news.txt"
    news.write_text("Bea Ray\r\nand Abe met in Rome.\r\n", newline="")
    news.with_suffix(".ann").write_text(
        "T1\tPER 0 3;4 7\tBea Ray\nT2\tPER 0 3;13 16\tBea Abe\nT3\tMEET 17 20\tmet\n"
        "T4\tLOC 24 28\tRome\nT5\tLOC 24 27\tRom\nE1\tMEET:T3 Who:T1\nR1\tIn Arg1:T1 Arg2:T4\n"
        "#1\tAnnotatorNotes T1\tsure\n*\tAlias T1 T2\nA1\tSure T1\n"
    )
    (tmp_path / "in" / "a.txt").write_text("😀 Nothing in Rome. Really.\n")
    (tmp_path / "in" / "a.ann").write_text("T1\tLOC 13 17\tRome\n")
    (tmp_path / "in" / "open.txt").write_text("Not read yet.\n")
    sentences, told = read(tmp_path / "in", "brat")
    assert [row[:3] for row in content(sentences)] == [
        (("😀", "Nothing", "in", "Rome", "."), ("O", "O", "O", "B-LOC", "O"), "a"),
        (("Really", "."), ("O", "O"), "a"),
        (
            ("Bea", "Ray", "and", "Abe", "met", "in", "Rome", "."),
            ("B-PER", "I-PER", "O", "O", "O", "O", "B-LOC", "O"),
            "b/news",
        ),
    ]
    assert told == [
        f"{tmp_path / 'in'}: left out 1 attribute, 1 equivalence, 1 event, 1 note, 1 relation",
        f"{news}: left out entities in several pieces (T2)",
        f"{tmp_path / 'in'}: left out 1 unanswered text",
        f"{tmp_path / 'in'}: cut 2 texts into words and sentences",
        f"{news}: LOC 'Rom' begins or ends within a word; it became 'Rome'",
        f"{news}: LOC 'Rome' is there twice; one was kept",
    ]


def test_brat_gets_a_line_for_each_sentence_and_keeps_words_beside(tmp_path):
    examples = [
        of_tags(Text.of_words(["Dr.", "a  b"]), ["B-PER", "I-PER"], "here", "x", "news"),
        of_tags(Text.of_words(["Bern", "."]), ["B-LOC", "O"], "here", None, "news"),
    ]
    list(convert.write({"": examples}, tmp_path / "out", "brat", "iob2"))
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        *("00001-news.ann", "00001-news.json", "00001-news.txt", "annotation.conf"),
    ]
    assert (tmp_path / "out" / "00001-news.txt").read_text() == "Dr. a  b\nBern .\n"
    entities = "T1\tPER 0 8\tDr. a  b\nT2\tLOC 9 13\tBern\n"
    assert (tmp_path / "out" / "00001-news.ann").read_text() == entities
    with (tmp_path / "out" / "00001-news.ann").open("a") as file:
        file.write("T3\tLOC 0 3;9 13\tDr. Bern\n")
    back, told = read(tmp_path / "out", "brat")
    assert content(back) == content(examples)
    place = tmp_path / "out" / "00001-news.txt"
    assert told == [f"{place}: left out entities in several pieces (T3)"]
    with pytest.raises(InputError, match="out: is not empty; give a new folder"):
        convert.check_target(tmp_path / "out", "brat", shares=[])
    side = tmp_path / "out" / "00001-news.json"
    kept = side.read_text()
    side.write_text(kept.replace("[14, 15]", "[-2, -1]"))
    said = "IN/00001-news.txt: 00001-news.json has other words; delete that file"
    assert fault(tmp_path / "out", "brat") == said
    (tmp_path / "out" / "00001-news.txt").write_text("Dr. a  b\nBerne .\n")
    said = fault(tmp_path / "out", "brat")
    assert said.startswith("IN/00001-news.txt: 00001-news.json has other words; delete that file")


# ------------------------------------------------------------ spaCy


def test_spacy_reads_what_is_written(tmp_path):
    spacy = pytest.importorskip("spacy", reason="spaCy is not installed")
    text = Text("Zoë's in 👩‍👩‍👧 town. Yes!", ((0, 3), (3, 5), (6, 8), (9, 14), (15, 19), (19, 20)))
    one = of_tags(replace(text, text=text.text[:20]), ["B-PER", *"OOOOO"], "here", "s", "d")
    two = of_tags(Text("Yes!", ((0, 3), (3, 4))), ["B-X-1", "I-X-1"], "here", None, "d")
    write([one, two, replace(two, document="e")], tmp_path / "out.spacy", "spacy")
    box = spacy.tokens.DocBin().from_disk(tmp_path / "out.spacy")
    first, second = box.get_docs(spacy.blank("en").vocab)
    assert first.text == text.text + " "
    assert [str(sentence) for sentence in first.sents] == [one.text, "Yes!"]
    assert [(e.text, e.label_) for e in first.ents] == [("Zoë", "PER"), ("Yes!", "X-1")]
    assert (len(second), second.user_data["document"]) == (2, "e")


def test_docs_of_spacy_are_read(tmp_path):
    spacy = pytest.importorskip("spacy", reason="spaCy is not installed")
    english = spacy.blank("en")
    told = english("Ann  Lee went\xa0home. She lives in Bern, U.S.A.")
    told.set_ents([told.char_span(0, 8, "PER", kb_id="Q1"), told.char_span(33, 37, "LOC")])
    told.spans["all"] = [told[0:1]]
    unknown = english("Nobody looked.")
    missing = english("Bern or Rome")
    missing.set_ents([missing[0:1]], default="outside", missing=[missing[2:3]])
    box = spacy.tokens.DocBin(docs=[told, unknown, missing])
    box.to_disk(tmp_path / "in.spacy")
    sentences, notes = read(tmp_path / "in.spacy", "spacy")
    assert [row[:3] for row in content(sentences)] == [
        (("Ann", "Lee", "went", "home", "."), ("B-PER", "I-PER", "O", "O", "O"), "1"),
        (("She", "lives", "in", "Bern", ",", "U.S.A."), (*"OOO", "B-LOC", *"OO"), "1"),
        (("Bern", "or", "Rome"), ("O", "O", "O"), "3"),
    ]
    path = tmp_path / "in.spacy"
    assert notes == [
        f"{path}: groups in Doc.spans that are left out: 1",
        f"{path}: identifiers of entities that are left out: 1",
        f"{path}: words without a label, which count as O: 1",
        f"{path}: left out 1 unanswered text",
    ]


def test_a_docbin_without_the_names_of_its_types_is_refused(tmp_path):
    spacy = pytest.importorskip("spacy", reason="spaCy is not installed")
    for names in ({"label": "PER"}, {"label": "PER", "kb_id": "Q1"}):
        doc = spacy.blank("en")("Ann Lee")
        doc.set_ents([doc.char_span(0, 7, **names)])
        box = spacy.tokens.DocBin(docs=[doc])
        box.strings.discard(list(names.values())[-1])
        box.to_disk(tmp_path / "in.spacy")
        said = fault(tmp_path / "in.spacy", "spacy")
        assert said.startswith("IN: is no DocBin of spaCy: ")


def test_words_as_spacy_cuts_them():
    pytest.importorskip("spacy", reason="spaCy is not installed")
    cut = cutter("spacy:de")
    assert [text[a:b] for text in ["Z.B.  geht's\n"] for a, b in cut(text)] == ["Z.B.", "geht's"]
    with pytest.raises(InputError, match="--words spacy:qq: .*spacy.lang.qq"):
        cutter("spacy:qq")


def test_without_spacy_one_line_says_so(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "spacy", None)  # as if it were not installed
    (tmp_path / "in").touch()
    wanted = "the format spacy needs the library spaCy; pip install spacy"
    assert fault(tmp_path / "in", "spacy").startswith(wanted)
    with pytest.raises(InputError, match="^--words spacy:en needs the library spaCy"):
        cutter("spacy:en")


# ------------------------------------------------------------ data sets


@pytest.mark.parametrize(
    "entities",
    [
        [
            {"start": 2, "end": 5, "label": "PER", "text": "Ann"},
            {"start": 14, "end": 18, "label": "LOC"},
        ],
        {"start": [2, 14], "end": [5, 18], "type": ["PER", "LOC"]},
        # JavaScript counts the emoji twice.
        [
            {"start_offset": 3, "end_offset": 6, "tag": "PER"},
            {"start_offset": 15, "end_offset": 19, "tag": "LOC"},
        ],
    ],
)
def test_data_sets_with_entities_by_characters(entities, tmp_path):
    row = {"text": "😀 Ann went to Bern.", "entities": entities, "doc_id": 7}
    (tmp_path / "in.jsonl").write_text(json.dumps(row))
    (sentence,), _ = read(tmp_path / "in.jsonl", "hub")
    assert content([sentence])[0][:3] == (
        ("😀", "Ann", "went", "to", "Bern", "."),
        ("O", "B-PER", "O", "O", "B-LOC", "O"),
        "7",
    )


def test_data_sets_whose_types_are_numbers(tmp_path):
    label = datasets.ClassLabel(names=["LOC", "PER"])
    spans = [{"start": datasets.Value("int32"), "end": datasets.Value("int32"), "label": label}]
    features = datasets.Features({"text": datasets.Value("string"), "spans": spans})
    rows = {"text": ["Ann", "Bern", "?"], "spans": [[{"start": 0, "end": 3, "label": 1}], [], None]}
    datasets.Dataset.from_dict(rows, features).to_parquet(tmp_path / "in.parquet")
    sentences, told = read(tmp_path / "in.parquet", "hub")
    assert [row[:2] for row in content(sentences)] == [(("Ann",), ("B-PER",)), (("Bern",), ("O",))]
    assert f"{tmp_path / 'in.parquet'}: left out 1 unanswered text" in told


def test_the_split_of_a_data_set_is_named(tmp_path):
    (tmp_path / "in").mkdir()
    for split in ("train", "test"):
        row = {"tokens": [split, "Bern"], "ner_tags": ["O", "B-LOC"]}
        (tmp_path / "in" / f"{split}.jsonl").write_text(json.dumps(row) + "\n")
    assert fault(tmp_path / "in", "hub") == "IN: has train, test; give IN:SPLIT"
    assert ": has train, test; give " in fault(Path(f"{tmp_path / 'in'}:dev"), "hub")
    (sentence,), _ = read(Path(f"{tmp_path / 'in'}:test"), "hub")
    assert content([sentence]) == [(("test", "Bern"), ("O", "B-LOC"), None, None)]


# ------------------------------------------------------------ Label Studio's own converter


def test_label_studio_exports_our_tasks_as_we_read_them(tmp_path):
    reason = "label-studio-sdk is not installed"
    converter = pytest.importorskip("label_studio_sdk.converter", reason=reason)
    examples = [
        of_tags(Text.of_words(["Maria", "Ray", "sings"]), ["B-PER", "I-PER", "O"], "x", "1", "d"),
        of_tags(Text.of_words(["In", "Bern", "😀", "!"]), ["O", "B-LOC", "O", "O"], "x", "2", "d"),
    ]
    write(examples, tmp_path / "tasks.json", "label-studio")
    tasks = json.loads((tmp_path / "tasks.json").read_text())
    tasks = [task | {"id": number} for number, task in enumerate(tasks)]  # as the server does
    (tmp_path / "tasks.json").write_text(json.dumps(tasks))
    convert = converter.Converter(label_config(["PER", "LOC"]), str(tmp_path))
    for name in ("JSON", "JSON_MIN", "CONLL2003"):
        convert.convert(str(tmp_path / "tasks.json"), str(tmp_path / name), name, is_dir=False)
    for name in ("JSON", "JSON_MIN"):
        back, _ = read(tmp_path / name / "result.json", "label-studio")
        assert content(back) == content(examples)
    theirs, _ = read(tmp_path / "CONLL2003" / "result.conll", "conll")
    assert [row[:2] for row in content(theirs)] == [row[:2] for row in content(examples)]


# ------------------------------------------------------------ faults


def misc(cell: str) -> str:
    """A CoNLL-U file of one word with that cell in the column MISC."""
    return "1\ta" + "\t_" * 7 + f"\t{cell}\n"


def marked(**places: int) -> str:
    """A row of Prodigy, with an entity at the first of three tokens."""
    tokens = [{"text": c, "start": 2 * i, "end": 2 * i + 1} for i, c in enumerate("Abc")]
    span = {"start": 0, "end": 1, "label": "PER"} | places
    return json.dumps({"text": "A b c", "tokens": tokens, "spans": [span]})


def task(values: list[dict]) -> str:
    """An export of Label Studio with one task, whose regions have these values."""
    result = [{"type": "labels", "value": value} for value in values]
    return json.dumps([{"id": 7, "data": {"text": "Ada"}, "annotations": [{"result": result}]}])


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("conllu", "1\ta\tO\n", "IN:1: '1\\ta\\tO', wanted 10 columns between tabs, the first a"),
        ("conllu", "1\ta" + "\t_" * 8 + "\n", "IN: no word has a tag, such as NER=B-PER in "),
        ("conllu", "1\ta" + "\t_" * 7 + "\tNER=PER\n", "IN:1: 'PER' is no tag, wanted O or one "),
        ("conllu", "# newdoc id = a\n\n", "IN: no sentence in it"),
        ("universal-ner", "1\ta\tO\n3\tb\tO\n", "IN:2: found word 3, wanted word 2"),
        ("universal-ner", "1\t \tO\n", "IN:1: the word is empty"),
        (
            "csv",
            "word,pos\na,O\n",
            "IN:1: none of the columns word, pos is named as that of",
        ),
        (
            "csv",
            "word,tag,ner\na,O,O\n",
            "IN:1: 2 of the columns word, tag, ner are named as ",
        ),
        ("csv", "word,tag\na,O\nb,O\n", "IN: no empty row, and no column named sentence, tells "),
        ("csv", "sentence,word,tag\n1,a\n", "IN:2: found 2 cells, wanted 3, as in the first row"),
        (
            "csv",
            "sentence,word,tag\n1,,O\n1,b,PER\n",
            "IN:2: the word is empty; IN:3: 'PER' is",
        ),
        ("csv", "word,tag,sentence\na\nb\n", "IN:2: found 1 cells, wanted 3, as in the first row"),
        ("csv", 'sentence,word,tag\n1,",O\n1,b,O\n', "IN:3: unexpected end of data; a cell that "),
        ("csv", 'sentence,word,tag\n1,"a\nb",O\n', "IN:3: the word 'a\\nb' has a tab or a line en"),
        (
            "csv",
            b"word,tag\nZ\xfcrich,O\n",
            "IN: is not UTF-8 at byte 10, 0xfc; convert the fi",
        ),
        (
            "csv",
            b"\xfe\xff\0a\0,",
            "IN: is not UTF-8 at byte 0, 0xfe; convert the file to UTF-8, such as with iconv "
            "-f utf-16 -t utf-8",
        ),
        (
            "jsonl",
            '{"text": "a b c", "words": ["a", "c"], "entities": []}',
            "IN:1: the word 'c' does not follow in the text 'a b c'",
        ),
        ("conllu", misc("NER=B-PER|NE=B-LOC"), "IN:1: has the tags B-PER and B-LOC in MISC, want"),
        ("universal-ner", "1-3\ta b\tO\n1\ta\tO\n2\tb\tO\n\n", "IN:3: the sentence ends before wo"),
        ("universal-ner", "1-2\ta b\tO\n1-3\ta\tO\n", "IN:2: the multiword token 1-3 is within"),
        (
            "universal-ner",
            "1\ta\tO\n2-1\ta\tO\n",
            "IN:2: the multiword token 2-1 is within another, ",
        ),
        (
            "doccano",
            '{"text": "Ada", "label": null}',
            "IN:1: has text, label (null), wanted text and one of label, labels and entities",
        ),
        (
            "prodigy",
            marked(token_start=0, token_end=2),
            "IN:1: spans[0] has end 1 and token_end 2, a token whose end is 5; correct one of them",
        ),
        (
            "prodigy",
            marked(token_start=1, token_end=0),
            "IN:1: spans[0] has start 0 and token_start 1, a token whose start is 2; correct one ",
        ),
        (
            "prodigy",
            marked(token_end=3),
            "IN:1: spans[0] has end 1 and token_end 3, a token whose end is None; correct one of ",
        ),
        (
            "label-studio",
            task([{"start": 0, "end": 3, "labels": [5]}]),
            "IN: object 1: task 7, annotations[0]: a region has start 0, end 3 and labels [5], w",
        ),
        (
            "label-studio",
            task([{"start": False, "end": 3, "labels": ["PER"]}]),
            "IN: object 1: task 7, annotations[0]: a region has start False, end 3 and labels ",
        ),
        (
            "label-studio",
            task([{"start": 0, "end": 3, "labels": "PER"}]),
            "IN: object 1: task 7, annotations[0]: a region has start 0, end 3 and labels 'PER'",
        ),
        ("spacy", b"nothing", "IN: is no DocBin of spaCy: "),
        ("hub", b"nothing", "IN: the library datasets cannot load it: "),
        ("brat", "nothing", "IN: is no folder, wanted one of NAME.txt and NAME.ann"),
    ],
)
def test_a_fault_is_one_line_with_its_place(name, text, said, tmp_path):
    if name == "spacy":
        pytest.importorskip("spacy", reason="spaCy is not installed")
    (tmp_path / "in").write_bytes(text if isinstance(text, bytes) else text.encode())
    assert fault(tmp_path / "in", name).startswith(said)


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (
            "--from doccano --columns 1,2",
            "--columns must be an input that has columns, conll or csv",
        ),
        ("--to brat --scheme bioes", "--scheme must be an output that has tags (conll, conllu, "),
        ("--words spacy", "--words must be rules, blanks or spacy:LANGUAGE"),
    ],
)
def test_a_flag_without_a_use_is_refused(flags, said, capsys):
    assert said in refused(command, capsys, "in", "out", *flags.split())


def test_faults_of_brat_and_of_data_sets(tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.txt").write_text("Ann went.")
    (tmp_path / "in" / "a.ann").write_text("T1\tPER 0 3\tAnn\nPER 0 3\n")
    (tmp_path / "in" / "b.ann").write_text("")
    said = fault(tmp_path / "in", "brat")
    assert said.startswith("IN/b.ann: there is no b.txt beside it; IN/a.ann:2: 'PER 0 3' is no ann")
    (tmp_path / "in" / "b.txt").touch()
    (tmp_path / "in" / "a.ann").write_text("T1\tPER 0 3\tAnn\n\nT1\tORG 4 8\twent\n")
    said = "IN/a.ann:3: T1 is there twice, before in line 1; give one a new name"
    assert fault(tmp_path / "in", "brat") == said
    (tmp_path / "in" / "a.ann").write_text("T1\tPER 0 3\tBea\n")
    said = "IN/a.txt: the entity 0 to 3 (T1 in a.ann:1) covers 'Ann', and not 'Bea'"
    assert fault(tmp_path / "in", "brat") == said
    (tmp_path / "in" / "a.ann").unlink()
    (tmp_path / "in" / "a.txt").unlink()
    (tmp_path / "in" / "a.txt").mkdir()
    assert fault(tmp_path / "in", "brat") == "IN/a.txt: is a folder, wanted a file"
    rows = [{"text": "Ann", "entities": [{"start": 0, "end": 3, "what": "PER"}]}]
    (tmp_path / "in.jsonl").write_text(json.dumps(rows[0]))
    assert ":1: has the entity " in fault(tmp_path / "in.jsonl", "hub")
    (tmp_path / "in.jsonl").write_text('{"text": "Ann"}')
    assert fault(tmp_path / "in.jsonl", "hub").startswith("IN: has the columns text; wanted tokens")


@pytest.mark.parametrize("type_", ["O", "X", "B-PER", "A|B:0.5", "x:1"])
@pytest.mark.parametrize("name", ["doccano", "jsonl", "brat"])
def test_a_type_that_columns_cannot_hold_is_refused(name, type_, tmp_path):
    path = tmp_path / "in"
    if name == "brat":
        path.mkdir()
        (path / "a.txt").write_text("Ada ran.")
        (path / "a.ann").write_text(f"T1\t{type_} 0 3\tAda\n")
    elif name == "doccano":
        path.write_text(json.dumps({"text": "Ada ran.", "label": [[0, 3, type_]]}))
    else:
        path.write_text(
            json.dumps({"text": "Ada ran.", "entities": [{"text": "Ada", "type": type_}]})
        )
    with pytest.raises(InputError, match=f"'Ada', has the type {re.escape(repr(type_))}, .* --map"):
        source = Source(path)
        examples = convert.renamed(convert.read(source, name), {}, source)
        convert.sentences_of(examples, cutter("rules"), source)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "IN: is empty, wanted rows"),
        (
            '{"tokens": ["a"], "ner_tags": ["O"]}\n{"tokens": ["b"], "ner_tags": []}',
            "IN:2: 1 words b",
        ),
        ('{"text": "Ada", "entities": 5}', ": has the entities 5, wanted a list"),
        (
            '{"text": "Ada", "entities": {"start": 0}}',
            ": has the entities {'start': 0}, wanted lis",
        ),
        (
            '{"text": "Ada", "entities": {"start": [0], "end": [3, 3], "label": ["PER"]}}',
            ", wanted lists of one length",
        ),
        (
            '{"text": "Ada", "entities": [{"start": true, "end": 3, "label": "PER"}]}',
            "has the entity {'start': True, 'end': 3, 'label': 'PER'}, wanted start, end and label",
        ),
        ('{"text": "Ada", "entities": ', "IN: the library datasets cannot load it: "),
    ],
)
def test_damaged_rows_of_a_data_set(text, said, tmp_path):
    (tmp_path / "in.jsonl").write_text(text)
    assert said in fault(tmp_path / "in.jsonl", "hub")


def test_a_word_that_nobody_sees_is_refused(tmp_path):
    unseen = of_tags(Text.of_words(["Ada", "\u200b"]), ["O", "O"], "here", None, None)
    for name in ("conll", "conllu", "universal-ner", "brat", "hub"):
        with pytest.raises(InputError, match=r"^here: the word '\\u200b' has no character that is"):
            write([unseen], tmp_path / name, name)


def test_a_word_or_a_name_that_breaks_a_line_is_refused(tmp_path):
    text = Text("a\nb c", ((0, 3), (4, 5)))
    broken = of_tags(text, ["O", "O"], "here", None, None)
    named = of_tags(Text.of_words(["a"]), ["O"], "here", "one\ntwo", None)
    for name in ("conll", "conllu", "universal-ner", "brat", "hub"):
        with pytest.raises(InputError, match=r"^here: the word 'a\\nb' cannot stand in columns"):
            write([broken], tmp_path / name, name)
    with pytest.raises(InputError, match="^here: the word"):
        list(convert.write({"": [broken]}, tmp_path / "new", "brat", "iob2"))
    assert not [path for path in tmp_path.iterdir() if "new" in path.name]
    for name in ("conll", "conllu", "universal-ner"):
        with pytest.raises(InputError, match=r"^here: its sent_id 'one\\ntwo' does not fit into a"):
            write([named], tmp_path / name, name)
