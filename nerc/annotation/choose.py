"""Compares ways to ask a language model, by the labels that experts gave to the same sentences."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from nerc.annotation.chat import Client
from nerc.annotation.config import LlmConfig
from nerc.annotation.llm import Labeller, label_all, money, of_types
from nerc.data.corpus import Corpus
from nerc.data.tags import ordered
from nerc.errors import InputError
from nerc.evaluation import bootstrap
from nerc.evaluation.bootstrap import ALL, Interval
from nerc.tables import Rows

EXAMPLES = (0, 2, 4, 8, 16)


@dataclass(frozen=True)
class Way:
    """A way to ask, and what its labels are worth."""

    config: LlmConfig
    f1: Interval  # of all sentences; one without labels has no entity
    num_labelled: int
    num_sentences: int
    prompt_tokens: int
    reply_tokens: int
    cost: float | None  # None: no prices

    @property
    def flags(self) -> str:
        names = " --definitions none" if self.config.definitions == "none" else ""
        return f"--format {self.config.format} --examples {self.config.examples}{names}"


def choose(
    client: Client, experts: Corpus, types: Sequence[str], places: Sequence[int]
) -> list[Way]:
    """Compare ways on the expert sentences at places, each with the others as examples.

    First numbers of examples, then the other format, then types without definitions, each with the
    best of what came before; best() names the winner.
    """
    experts = of_types(experts, types)
    chosen = experts.select(places)
    ways: list[Way] = []
    changes = [{"examples": n, "format": "inline"} for n in EXAMPLES if n < len(experts)]
    changes.append({"format": "json"})
    if client.config.definitions != "none":
        changes.append({"definitions": "none"})
    for change in changes:
        config = replace(best(ways).config if ways else client.config, **change)
        ways.append(_measure(Client(config, client.replies, client.budget), experts, types, chosen))
    return ways


def best(ways: Sequence[Way]) -> Way:
    """The way with the highest F1; of equal ones, the first."""
    return max(ways, key=lambda way: way.f1.value)


def _measure(client: Client, experts: Corpus, types: Sequence[str], chosen: Corpus) -> Way:
    labeller = Labeller.of(client, experts, types)
    words = list(dict.fromkeys(sentence.words for sentence in chosen))
    labels = dict(zip(words, label_all(labeller, words, "choosing"), strict=True))
    if not all(of_one.asked for of_one in labels.values()):
        raise InputError(
            f"--max-cost {client.config.max_cost:g} does not suffice to compare the ways; replies "
            f"are kept"
        )
    of_all = [labels[sentence.words] for sentence in chosen]
    predicted = [o.tags if o.is_labelled else ["O"] * len(o.words) for o in of_all]
    # As one document, so that sentences are resampled: they were drawn one by one.
    gold = Corpus.of(sentence._replace(document=0) for sentence in chosen)
    names = ordered(labeller.prompt.definitions)
    counts = bootstrap.count_entities(gold, predicted, names)
    draws = bootstrap.bootstrap_draws(len(counts))
    used = client.used
    cost = client.budget.cost_of(*used) if client.budget.prices else None
    f1 = bootstrap.intervals(counts, names, draws)[ALL]
    return Way(client.config, f1, sum(o.is_labelled for o in of_all), len(of_all), *used, cost)


def table(ways: Sequence[Way]) -> Rows:
    """What each way is worth and costs, and what one more example buys."""
    header = ["Way", "F1", "95 % interval", "labelled", "tokens asked", "answered"]
    header += ["cost of 1,000 sentences", "F1 for one more example"]
    rows, before = [header], None
    for way in ways:
        n = way.num_sentences
        gain = ""
        if before is not None and _differ_in_examples(way, before):
            number = way.config.examples - before.config.examples
            gain = f"{(way.f1.value - before.f1.value) / number:+.4f}"
        rows.append(
            [
                way.flags,
                f"{way.f1.value:.3f}",
                f"{way.f1.low:.3f} to {way.f1.high:.3f}",
                f"{100 * way.num_labelled / n:.1f} %",
                f"{way.prompt_tokens / n:,.0f}",
                f"{way.reply_tokens / n:,.0f}",
                "-" if way.cost is None else money(1000 * way.cost / n),
                gain,
            ]
        )
        before = way
    return rows


def _differ_in_examples(way: Way, other: Way) -> bool:
    same = replace(way.config, examples=other.config.examples)
    return same == other.config and way.config.examples > other.config.examples
