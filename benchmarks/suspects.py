"""Measure how many of the first suspects are wrong labels, beside cleanlab's on the same models.

python benchmarks/suspects.py --corpus DIR --encoder DIR --seeds 0 1 2
python benchmarks/suspects.py --corpus DIR --encoder DIR --llm       also the labels of llm.txt

5 % of the entities of valid.txt are corrupted: a fifth of them removed, a fifth put where there is
none, a fifth given another type, a fifth cut and a fifth grown by a word. The models learn from the
corrupted labels of the other folds. Precision: of as many suspects as were planted, the share that
overlaps a planted change; suspects of the same change count once. cleanlab ranks words; words that
follow one another are one suspect. Needs cleanlab. --llm compares the labels of llm.txt with those
of train.txt: the share of the first 500 suspects that overlap an entity on which the two differ.
"""

import argparse
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))  # run from anywhere

from nerc.annotation import cross_fitting, suspects  # noqa: E402
from nerc.annotation.suspects import Place, Suspect  # noqa: E402
from nerc.cli import start_logging  # noqa: E402
from nerc.config import DataConfig, ModelConfig, TrainConfig  # noqa: E402
from nerc.data import labels, noise, sources, tags  # noqa: E402
from nerc.data.corpus import Corpus  # noqa: E402
from nerc.data.sources import Sources  # noqa: E402
from nerc.evaluation.label_audit import pair_labels, read_experts  # noqa: E402
from nerc.tables import markdown, spread  # noqa: E402

SHARE = 0.05  # of the entities that are corrupted
NUM_LLM = 500  # suspects of llm.txt that are judged
CORRUPTIONS = ("missing", "spurious", "type", "cut", "grown")


class Change(NamedTuple):
    """Words start to end of a sentence, whose right and given entities differ."""

    sentence: int
    start: int
    end: int
    kind: str


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--corpus", required=True, help="folder with valid.txt; llm.txt, train.txt")
    parser.add_argument("--encoder", required=True, help="as in train.py")
    parser.add_argument("--seeds", type=int, nargs="*", default=[0, 1, 2], help="default: 0 1 2")
    parser.add_argument("--folds", type=int, default=5, help="default: 5")
    parser.add_argument("--epochs", type=int, help="on valid.txt (default: the recipe's)")
    parser.add_argument("--precision", default="auto", help="default: auto")
    parser.add_argument("--num-threads", type=int, default=0, help="default: every core")
    parser.add_argument("--llm", action="store_true", help="judge the suspects of llm.txt, too")
    parser.add_argument("--keep", type=Path, help="folder that keeps the models' probabilities")
    given = parser.parse_args()
    start_logging(prefix="suspects")
    found = [measure_planted(given, seed) for seed in given.seeds]
    tables = [planted_table(found), kinds_table(found)] if found else []
    tables += [measure_llm(given)] if given.llm else []
    print("\n\n".join(tables))


# ------------------------------------------------------------ planted changes


def measure_planted(given: argparse.Namespace, seed: int) -> dict[str, dict]:
    """For each method: the precision, what it found, and its false alarms on clean labels."""
    clean = sources.load(given.corpus, "validation")
    corrupted, planted = plant(clean, seed)
    rows, word_tags = probabilities(given, f"planted_{seed}", corrupted, seed)
    kinds = Counter(change.kind for change in planted)
    results = {}
    for name, rank in RANKINGS.items():
        ranked = rank(corrupted, rows, word_tags)
        right, hits, threshold = judge(ranked, planted, len(planted))
        alarms = sum(s.score >= threshold for s in rank(clean, rows, word_tags))
        found = {kind: sum(c.kind == kind for c in hits) / kinds[kind] for kind in CORRUPTIONS}
        results[name] = {"planted": len(planted), "precision": right, "alarms": alarms}
        results[name]["found"] = found
    return results


def plant(corpus: Corpus, seed: int) -> tuple[Corpus, list[Change]]:
    """Corrupt SHARE of the entities, each kind equally often; no two changes touch each other."""
    random = np.random.default_rng([seed, 5])
    sentences = list(corpus)
    every = [(i, e) for i, s in enumerate(sentences) for e in tags.entities(s.tags)]
    types = sorted({entity.type for _, entity in every})
    rows = [list(sentence.tags) for sentence in sentences]
    touched = [np.zeros(len(sentence.words), dtype=bool) for sentence in sentences]
    planted, drawn = [], iter(random.permutation(len(every)))
    kinds = [CORRUPTIONS[i % len(CORRUPTIONS)] for i in range(round(SHARE * len(every)))]
    random.shuffle(kinds)
    for kind in kinds:
        while True:
            i, entity = every[next(drawn)]
            if kind == "spurious":
                i = int(random.integers(len(sentences)))
                before, after = None, noise.spurious(sentences[i].words, rows[i], entity, random)
            else:
                before, after = entity, noise.changed(rows[i], entity, kind, types, random)
            if after is None and kind != "missing":
                continue
            both = [e for e in (before, after) if e]
            start, end = min(e.start for e in both), max(e.end for e in both)
            if touched[i][max(0, start - 1) : end + 1].any():
                continue
            touched[i][start:end] = True
            noise.put(rows[i], before, after)
            planted.append(Change(i, start, end, kind))
            break
    pairs = zip(sentences, rows, strict=True)
    return Corpus.of(sentence._replace(tags=tuple(row)) for sentence, row in pairs), planted


def probabilities(
    given: argparse.Namespace, name: str, corpus: Corpus, seed: int, weak: Corpus | None = None
) -> tuple[list[np.ndarray], tuple[str, ...]]:
    """Out-of-sample log-probabilities of corpus, kept in --keep; weak: as they were written."""
    path = given.keep and given.keep / f"{name}_{given.folds}_folds.npz"
    if path and path.exists():
        kept = np.load(path)
        ends = np.cumsum([len(sentence.words) for sentence in corpus])
        return np.split(kept["rows"], ends[:-1]), tuple(kept["word_tags"].tolist())
    data = DataConfig(data="llm" if weak else "gold", corpus=given.corpus)
    how = {"keep": "last", "num_threads": given.num_threads, "precision": given.precision}
    training = TrainConfig(seed=seed, epochs=None if weak else given.epochs, **how)
    configs = data, ModelConfig(encoder=given.encoder), training
    read = Sources(weak=weak) if weak else Sources(train=corpus)
    rows, word_tags = cross_fitting.fit(corpus, read, configs, given.folds)
    if path:
        path.parent.mkdir(parents=True, exist_ok=True)
        np.savez(path, rows=np.concatenate(rows), word_tags=word_tags)
    return rows, word_tags


def judge(
    ranked: Iterable[Suspect], changes: Sequence[Change], number: int
) -> tuple[float, set[Change], float]:
    """Of the first so many suspects, the share that overlaps a change, and the lowest score.

    Also the changes that they overlap. A suspect whose changes were all found before is skipped.
    """
    of_sentence: dict[int, list[Change]] = {}
    for change in changes:
        of_sentence.setdefault(change.sentence, []).append(change)
    found: set[Change] = set()
    num_listed = num_right = 0
    for suspect in ranked:
        near = of_sentence.get(suspect.sentence, ())
        touched = {c for c in near if c.start < suspect.place.end and suspect.place.start < c.end}
        if touched and touched <= found:
            continue
        found |= touched
        num_right += bool(touched)
        num_listed += 1
        if num_listed == number:
            break
    return num_right / number, found, suspect.score


# ------------------------------------------------------------ rankings

Ranking = Callable[[Corpus, Sequence[np.ndarray], Sequence[str]], list[Suspect]]


def cleanlab_scores(
    corpus: Corpus, rows: Sequence[np.ndarray], word_tags: Sequence[str]
) -> list[Suspect]:
    """Words by cleanlab's label quality scores, the lowest first."""
    from cleanlab.token_classification.rank import get_label_quality_scores

    given, predicted = cleanlab_input(corpus, rows, word_tags)
    _, scores = get_label_quality_scores(given, predicted)
    words = [(i, t, -float(x)) for i, row in enumerate(scores) for t, x in enumerate(row)]
    return merged(sorted(words, key=lambda word: -word[2]))


def cleanlab_issues(
    corpus: Corpus, rows: Sequence[np.ndarray], word_tags: Sequence[str]
) -> list[Suspect]:
    """Words that cleanlab's confident learning finds, ranked by their label quality."""
    from cleanlab.token_classification.filter import find_label_issues

    given, predicted = cleanlab_input(corpus, rows, word_tags)
    issues = find_label_issues(given, predicted, n_jobs=1)
    return merged([(i, t, -float(predicted[i][t, given[i][t]])) for i, t in issues])


def cleanlab_input(
    corpus: Corpus, rows: Sequence[np.ndarray], word_tags: Sequence[str]
) -> tuple[list[list[int]], list[np.ndarray]]:
    """Labels and probabilities; a word without a label gets the likeliest one: it is no issue."""
    column = {tag: i for i, tag in enumerate(word_tags)}
    predicted = [np.exp(row) / np.exp(row).sum(axis=1, keepdims=True) for row in rows]
    given = [
        [column.get(tag, int(best)) for tag, best in zip(s.tags, row.argmax(axis=1), strict=True)]
        for s, row in zip(corpus, rows, strict=True)
    ]
    return given, predicted


def merged(words: Iterable[tuple[int, int, float]]) -> list[Suspect]:
    """Words (sentence, place, score) as suspects; a word beside one that is listed is left out."""
    listed: set[tuple[int, int]] = set()
    result = []
    for i, t, score in words:
        if not {(i, t - 1), (i, t + 1)} & listed:
            result.append(Suspect(i, Place(t, t + 1, (), ()), score))
        listed.add((i, t))
    return result


RANKINGS: dict[str, Ranking] = {
    "nerc": suspects.find,
    "cleanlab, label quality": cleanlab_scores,
    "cleanlab, label issues": cleanlab_issues,
}


# ------------------------------------------------------------ tables


def planted_table(found: Sequence[dict[str, dict]]) -> str:
    """Precision and false alarms of each method, mean and standard deviation over seeds."""
    rows = [["5 % corrupted", "seeds", "planted", "precision", "alarms on clean labels"]]
    for name in RANKINGS:
        seeds = [result[name] for result in found]
        planted = spread([s["planted"] for s in seeds[:1]], 0)
        precision = spread([s["precision"] for s in seeds], 3)
        rows.append(
            [name, str(len(seeds)), planted, precision, spread([s["alarms"] for s in seeds], 0)]
        )
    return markdown(rows)


def kinds_table(found: Sequence[dict[str, dict]]) -> str:
    """The share of each kind of change that was found, means over seeds."""
    rows = [["share found", *CORRUPTIONS]]
    for name in RANKINGS:
        by_kind = ([result[name]["found"][kind] for result in found] for kind in CORRUPTIONS)
        rows.append([name, *(f"{np.mean(values):.2f}" for values in by_kind)])
    return markdown(rows)


def measure_llm(given: argparse.Namespace) -> str:
    """Precision of the first suspects among a language model's labels, of sentences with both."""
    written = sources.load(given.corpus, "llm")
    weak = labels.repair(written, ())
    rows, word_tags = probabilities(given, "llm", weak, 0, written)
    experts = read_experts(given.corpus, None, weak, None, 0)
    both = [i for i, sentence in enumerate(weak) if sentence.words in experts]
    weak, rows = weak.select(both), [rows[i] for i in both]
    gold, predicted = pair_labels(experts, weak)
    changes = [
        Change(i, place.start, place.end, place.kind)
        for i, (sentence, row) in enumerate(zip(gold, predicted, strict=True))
        for place in suspects.places(tags.entities(row), tags.entities(sentence.tags))
    ]
    table = [["labels of a language model", "wrong places", f"precision of {NUM_LLM} suspects"]]
    for name, rank in RANKINGS.items():
        precision, *_ = judge(rank(weak, rows, word_tags), changes, NUM_LLM)
        table.append([name, f"{len(changes):,}", f"{precision:.3f}"])
    return markdown(table)


if __name__ == "__main__":
    main()
