"""Text in many scripts is cut into words, learnt from, tagged, and given back with its places."""

import json
from pathlib import Path

import pytest
import transformers
from transformers import BertConfig, BertModel, set_seed

import train
from nerc import NERSmall
from nerc.commands import convert, predict
from nerc.data import conll, sources, synthetic, tags
from nerc.data.sentences import split
from nerc.data.words import Text, words
from nerc.errors import InputError
from nerc.model.pipeline import NERPipeline
from nerc.model.tokenizer import learn_tokenizer

# A text, then its person and its place.
TEXTS = [
    ("Łukasz Żuk mieszka w São Paulo.", "Łukasz Żuk", "São Paulo"),
    ("Anna Noël a vu Zu\u0308rich.", "Anna Noël", "Zu\u0308rich"),
    ("😀 Ο Νίκος Παππάς ζει στην Αθήνα;", "Νίκος Παππάς", "Αθήνα"),
    ("«Анна Белова» живёт в Санкт-Петербурге!", "Анна Белова", "Санкт-Петербурге"),
    ("وصل مُحَمَّد صلاح إلى القاهرة، أليس كذلك؟", "مُحَمَّد صلاح", "القاهرة"),
    ("علی رضایی می\u200cرود به تهران؛", "علی رضایی", "تهران"),
    ('\u200fח"כ דָּוִד לוי\u200f, גר בחיפה\u200e.', "דָּוִד לוי", "בחיפה"),
    ("अंगेला मर्केल पेरिस गईं।", "अंगेला मर्केल", "पेरिस"),
    ("👩\u200d👧习近平访问了巴黎。", "习近平", "巴黎"),
    ("メルケルさんは「ローマ」へ行った。", "メルケル", "ローマ"),
    ("สมชายไปเชียงใหม่เมื่อปี๒๕๖๗", "สมชาย", "เชียงใหม่"),
    ("김민수 씨가 서울 에서 말했다.", "김민수", "서울"),
]
SENTENCES = [text for text, *_ in TEXTS]


def places(text: str, person: str, place: str) -> list[tuple[str, int, int, str]]:
    """The entities of a text as predict shall find them, in their order."""
    found = [(type_, text.index(name), name) for type_, name in (("PER", person), ("LOC", place))]
    rows = [(type_, start, start + len(name), name) for type_, start, name in found]
    return sorted(rows, key=lambda row: row[1])


WANTED = [places(*row) for row in TEXTS]


def write_texts(path: Path) -> None:
    """TEXTS with their entities, by characters, as lines of JSON."""
    rows = [
        {"text": text, "entities": [{"type": t, "start": a, "end": b} for t, a, b, _ in wanted]}
        for text, wanted in zip(SENTENCES, WANTED, strict=True)
    ]
    path.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")


def shown(entities: list[dict]) -> list[tuple[str, int, int, str]]:
    return [(e["type"], e["start"], e["end"], e["text"]) for e in entities]


def cut(text: str) -> list[str]:
    return [text[start:end] for start, end in words(text)]


# ------------------------------------------------------------ words


@pytest.mark.parametrize(
    "text, wanted",
    [
        ("，《红楼梦》！“人民”、３．５", "， 《 红 楼 梦 》 ！ “ 人 民 ” 、 ３ ． ５"),
        ("安吉拉·默克尔（Angela）在1997年", "安 吉 拉 · 默 克 尔 （ Angela ） 在 1997 年"),
        ("葛\U000e0100城時々〇", "葛\U000e0100 城 時 々 〇"),  # a variation selector
        ("スーパーbar、ﾊﾞｽ。か\u3099", "ス ー パ ー bar 、 ﾊﾞ ｽ 。 か\u3099"),
        ("น้ำใจ\u200bดี ๒๕๖๗", "น้ำ ใ จ ดี ๒๕๖๗"),
        ("ວຽງຈັນ", "ວ ຽ ງ ຈັ ນ"),
        ("ភ្នំពេញ។", "ភ្នំ ពេ ញ ។"),
        ("မြန်မာ၊", "မြ န် မာ ၊"),
        ("서울에서 (Seoul)", "서울에서 ( Seoul )"),
        ("كِتَابٌ، «مصر»؛ نعم؟ ١٬٠٠٠٫٥ ہے۔", "كِتَابٌ ، « مصر » ؛ نعم ؟ ١٬٠٠٠٫٥ ہے ۔"),
        ("می\u200cخواهد.", "می\u200cخواهد ."),
        ('צה"ל, צה״ל ג׳ורג׳ ב"הארץ" שָׁלוֹם', 'צה"ל , צה״ל ג׳ורג׳ ב " הארץ " שָׁלוֹם'),
        ("\u202bתל\u200fאביב\u202c \u2067(א)\u2069\u200f!", "תל\u200fאביב ( א ) !"),
        ("क्\u200dष॥ १,००० हिन्दी।", "क्\u200dष ॥ १,००० हिन्दी ।"),
        ("தமிழ் বাংলা", "தமிழ் বাংলা"),
        ("Ի՞նչ է։ Այո՛։", "Ի՞նչ է ։ Այո ՛ ։"),
        ("Ναι; Όχι· ἀνὴρ", "Ναι ; Όχι · ἀνὴρ"),
        ("А. Пушкин, об'єм", "А. Пушкин , об'єм"),
        ("O‘zbek col·legi aujourd'hui Ankara'da", "O‘zbek col·legi aujourd'hui Ankara'da"),
        (
            "l'homme dell'arte L’Aquila",
            "l'homme dell'arte L’Aquila",
        ),  # as CoNLL-2003 has d'affaires
        ("👍🏽👩\u200d👧🇫🇷1️⃣❤️x", "👍🏽 👩\u200d👧 🇫🇷 1️⃣ ❤️ x"),
        ("phnom\u200bpenh \u200b\u200e \ufeff", "phnom penh"),
    ],
)
def test_each_script_is_cut_by_its_own_signs(text, wanted):
    assert cut(text) == wanted.split()


def test_no_mark_is_parted_from_its_letter():
    """For each letter of a script without blanks, before and after Latin ones."""
    marks = {"か": "\u3099", "葛": "\U000e0100", "น": "้ำ", "ກ": "ຳ", "ခ": "ျွာ", "ញ": "ុំ"}
    for letter, mark in marks.items():
        assert cut(f"a{letter}{mark}{letter}b") == ["a", letter + mark, letter, "b"]


def test_what_is_not_seen_changes_no_words():
    """Marks of direction around the words of text; within them, they part nothing."""
    for text in SENTENCES:
        found = cut(text)
        for mark in "\u200e\u200f\u061c\u2060\ufeff":
            around = f"{mark} ".join(f"{mark}{word}" for word in found) + mark
            assert cut(around) == cut(" ".join(found))
    assert cut("Mo\u200escow, Par\u2060is's") == ["Mo\u200escow", ",", "Par\u2060is", "'s"]


def test_words_of_a_file_may_have_what_is_not_seen_between_them():
    text = "\u200fארה\u200f, x\u200e"
    assert Text.aligned(text, ("ארה", ",", "x")).spans == ((1, 4), (5, 6), (7, 8))
    with pytest.raises(InputError, match="does not follow"):
        Text.aligned("a\u200fb c", ("a", "c"))
    with pytest.raises(InputError, match="is in no word"):
        Text.aligned("a\u0600", ("a",))  # seen: the Arabic sign of a number


def test_the_words_of_the_built_in_corpus_come_back():
    texts = [words for part in ("train", "test") for words, *_ in synthetic.generate(part, 2000)]
    assert all(cut(" ".join(wanted)) == list(wanted) for wanted in texts)


# ------------------------------------------------------------ from raw text to entities


@pytest.fixture(scope="module")
def store(tmp_path_factory) -> Path:
    """A store whose model has learnt TEXTS, which convert has cut into words."""
    root = tmp_path_factory.mktemp("languages")
    (root / "data").mkdir()
    write_texts(root / "texts.jsonl")
    flags = [root / "texts.jsonl", root / "data/train.txt", "--from", "jsonl"]
    convert.main([*map(str, flags), "--list", str(root / "changes.txt")])
    changes = (root / "changes.txt").read_text().splitlines()
    assert len(changes) == 1 and "cut 12 texts into words" in changes[0]  # names are whole words

    tokenizer = learn_tokenizer(sources.load(str(root / "data"), "train"), 400)
    set_seed(0)
    sizes = dict(hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=64)
    BertModel(BertConfig(vocab_size=len(tokenizer), **sizes)).save_pretrained(root / "encoder")
    tokenizer.save_pretrained(root / "encoder")
    flags = f"--corpus {root / 'data'} --encoder {root / 'encoder'} --repo {root / 'models'}"
    flags += " --lstm-hidden-size 16 --batch-size 4 --epochs 80 --keep last --num-threads 1"
    flags += " --lr 1e-3 --head-lr 1e-2 --precision float32"
    train.main(flags.split())
    return root / "models"


def answer(store: Path, tmp_path: Path, text: str, *flags: str) -> str:
    source, target = tmp_path / "in.txt", tmp_path / "out.txt"
    source.write_text(text, encoding="utf-8")
    where = ["--repo", store, "--input", source, "--output", target, "--num-threads", 1]
    predict.main([str(flag) for flag in (*where, *flags)])
    return target.read_text(encoding="utf-8")


def rows(out: str) -> list[dict]:
    return [json.loads(line) for line in out.splitlines()]


def test_every_way_in_finds_the_names_at_their_places(store, tmp_path):
    raw = rows(answer(store, tmp_path, "\n".join(SENTENCES)))
    assert [row["text"] for row in raw] == SENTENCES
    assert [shown(row["entities"]) for row in raw] == WANTED
    lines = "\n".join(json.dumps({"text": text}) for text in SENTENCES)
    assert rows(answer(store, tmp_path, lines, "--format", "json")) == raw
    model = NERSmall.from_pretrained(store, revision="model_primary")
    assert model.predict(SENTENCES) == [row["entities"] for row in raw]
    folder = str(store / "model_primary")
    tagger = transformers.pipeline("token-classification", folder, pipeline_class=NERPipeline)
    for found, wanted in zip(tagger(SENTENCES), WANTED, strict=True):
        assert [(e["entity_group"], e["start"], e["end"], e["word"]) for e in found] == wanted


def test_paragraphs_end_at_the_stops_of_each_script(store, tmp_path):
    """Thai has none; the Persian text ends with a semicolon, and Greek needs its own."""
    chosen = [i for i, text in enumerate(SENTENCES) if text[-1] not in "؛๗"]
    content = "\n\n".join(f"{SENTENCES[i]}\n{SENTENCES[i]}" for i in chosen)
    found = rows(answer(store, tmp_path, content, "--format", "paragraphs"))
    assert [row["text"] for row in found] == [SENTENCES[i] for i in chosen for _ in range(2)]
    for row, wanted in zip(found, [WANTED[i] for i in chosen for _ in range(2)], strict=True):
        assert [(t, name) for t, _, _, name in shown(row["entities"])] == [
            (t, name) for t, _, _, name in wanted
        ]
        for entity in row["entities"]:
            assert content[entity["start"] : entity["end"]] == entity["text"]


def test_words_as_given_are_never_cut(store, tmp_path):
    given = ["习近平", "访问了", "巴黎。", "l'homme", "don't", "\u200fא", "สมชาย,"]
    line = json.dumps({"words": given})
    out = answer(store, tmp_path, line, "--format", "json", "--to", "conll")
    assert [row.split(" ")[0] for row in out.splitlines() if row] == given
    (tmp_path / "given.conll").write_text("".join(f"{w} O\n" for w in given), encoding="utf-8")
    convert.main([str(tmp_path / "given.conll"), str(tmp_path / "new.conll")])
    assert next(iter(conll.read_conll(tmp_path / "new.conll"))).words == tuple(given)


def test_prose_becomes_unlabelled_text_with_every_character_that_is_seen(tmp_path):
    prose = "\n\n".join(SENTENCES)
    (tmp_path / "notes.txt").write_text(prose, encoding="utf-8")
    new = tmp_path / "unlabelled.txt"
    convert.main([str(tmp_path / "notes.txt"), str(new), "--from", "text"])
    lines = new.read_text(encoding="utf-8").splitlines()
    found = [line.split(" ")[0] for line in lines if line and not line.startswith(("-DOC", "#"))]
    assert found == [word for text in SENTENCES for word in cut(text)]
    assert len(split(prose)) == len(SENTENCES)


@pytest.mark.parametrize("name", ["jsonl", "label-studio", "prodigy", "doccano", "conllu", "brat"])
def test_words_come_back_from_other_formats(name, tmp_path):
    write_texts(tmp_path / "texts.jsonl")
    there, back = str(tmp_path / "there"), str(tmp_path / "back.txt")
    convert.main([str(tmp_path / "texts.jsonl"), there, "--from", "jsonl", "--to", name])
    convert.main([there, back, "--from", name])
    found = list(conll.read_conll(Path(back)))
    assert [list(sentence.words) for sentence in found] == [cut(text) for text in SENTENCES]
    for sentence, wanted in zip(found, WANTED, strict=True):
        entities = tags.entities(sentence.tags)
        names = [tuple(sentence.words[e.start : e.end]) for e in entities]
        assert names == [tuple(cut(name)) for *_, name in wanted]
