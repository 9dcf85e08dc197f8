"""Compare models that read documents with models that read sentences alone.

  python experiments/documents.py --repo DIR --corpus DIR --revision NAME [NAME ...]
  python experiments/documents.py

The revisions are those of main_results.py, strong_gold_seed* and document_gold_seed*. Each is
judged on the test split, as it stands and as raw text: each document is one paragraph, which nerc
splits into sentences and words, and an entity is right if it has the characters and the type of one
of the experts. Models of documents are judged twice, reading documents and reading sentences alone.
Every revision is a line of documents.jsonl beside this file; without flags, the table is printed.
"""

import argparse
import json
import sys
from itertools import groupby
from pathlib import Path

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent))  # run from anywhere

from nerc.tables import markdown, spread  # noqa: E402

RESULTS = HERE / "documents.jsonl"
CLOSING, OPENING = {*".,;:!?)]%", "'s", "n't", "'"}, {*"([$"}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--repo", default="models", help="folder of the revisions")
    parser.add_argument("--revision", nargs="+", default=[], help="of main_results.py")
    parser.add_argument("--corpus", help="folder with test.txt")
    given = parser.parse_args()
    for name in given.revision:
        line = json.dumps(measure(Path(given.repo) / name, given.corpus))
        with RESULTS.open("a", encoding="utf-8") as file:
            file.write(line + "\n")
    print(table())


def measure(folder: Path, corpus: str) -> dict:
    """Test F1 of a revision by what it reads, in the sentences of experts and of nerc."""
    from accelerate import Accelerator

    from nerc.data import sources
    from nerc.evaluation import evaluator
    from nerc.model import encoding
    from nerc.store import model_files, records

    model, tokenizer = model_files.load_revision(folder)
    model.to(Accelerator().device)
    sentences = sources.load(corpus, "test")
    line = {"revision": folder.name, "seed": records.read_run(folder)["config"]["seed"]}
    for context in dict.fromkeys((model.config.context, "none")):
        model.config.context = context
        encoded = encoding.encode_for(model, tokenizer, sentences)
        line[context] = {
            "sentences": evaluator.evaluate(model, sentences, encoded).report.f1,
            "raw text": f1_on_raw_text(model, tokenizer, sentences),
        }
    return line


def f1_on_raw_text(model, tokenizer, corpus) -> float:
    """F1 on the documents of a corpus as paragraphs, by characters."""
    from nerc.data.sentences import split
    from nerc.data.tags import entities
    from nerc.data.words import Text
    from nerc.model.pipeline import tag_texts

    wanted, texts, places = set(), [], []
    for number, document in groupby(corpus, key=lambda sentence: sentence.document):
        paragraph = ""
        for sentence in document:
            spans = []
            for before, word in zip((None, *sentence.words), sentence.words, strict=False):
                is_joined = word in CLOSING or before in OPENING
                paragraph += "" if not paragraph or is_joined and before else " "
                spans.append((len(paragraph), len(paragraph) + len(word)))
                paragraph += word
            for type_, start, end in entities(sentence.tags):
                wanted.add((number, type_, spans[start][0], spans[end - 1][1]))
        for start, end in split(paragraph):
            text = Text.of_wrapped(paragraph[start:end])
            texts.append(Text(text.text, text.spans, document=number))
            places.append((number, start))
    (tagged,) = tag_texts(model, tokenizer, [texts])
    found = {
        (number, entity["type"], start + entity["start"], start + entity["end"])
        for (number, start), (_, _, found_in_text) in zip(places, tagged, strict=True)
        for entity in found_in_text
    }
    return 2 * len(found & wanted) / (len(found) + len(wanted))


def table() -> str:
    """Mean and standard deviation over the seeds, in percent, as Markdown."""
    lines = [json.loads(line) for line in RESULTS.read_text(encoding="utf-8").splitlines()]
    rows = [["The model learnt from", "reads", "seeds", "sentences of CoNLL-2003", "raw text"]]
    for learnt, name in (("sentences", "strong_gold"), ("documents", "document_gold")):
        of_kind = [line for line in lines if line["revision"].startswith(name)]
        for context, reads in (("none", "sentences alone"), ("document", "documents")):
            scores = [line[context] for line in of_kind if context in line]
            if scores:
                texts = ("sentences", "raw text")
                figures = [spread([100 * s[text] for s in scores]) for text in texts]
                seeds = ", ".join(str(line["seed"]) for line in of_kind)
                rows.append([learnt, reads, seeds, *figures])
    return markdown(rows)


if __name__ == "__main__":
    main()
