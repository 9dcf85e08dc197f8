"""Asks a language model for the labels of a round, before people or instead of them."""

import logging
from collections.abc import Sequence
from pathlib import Path

from nerc.annotation.chat import Budget, Client
from nerc.annotation.config import LlmConfig
from nerc.annotation.llm import Labeller, Labels, cost_note, fault_counts, label_all
from nerc.annotation.replies import Replies
from nerc.data.corpus import Corpus
from nerc.data.pool import Pool, Query, answered
from nerc.data.tags import ordered, to_iob2
from nerc.errors import InputError
from nerc.tables import counted

logger = logging.getLogger(__name__)

# Of all rounds in a store: later ones count what the earlier ones cost, and other runs with the
# same questions may copy it.
REPLIES = "llm.replies.jsonl"


def labeller_of(llm: LlmConfig, pool: Pool, folder: Path) -> Labeller | None:
    """Asks the model of --model, with what experts labelled as examples; None without one.

    folder: of the store, which holds the replies.
    """
    if llm.model is None:
        return None
    client = Client(llm, Replies(folder / REPLIES), Budget(()))
    client.check_key()
    return Labeller.of(client, Corpus.of(pool.known), ordered(pool.expert_types))


def ask(labeller: Labeller, queries: Sequence[Query], number: int, *, people: bool) -> list[Query]:
    """The queries of a round with the answers of the language model; without tags: none.

    people: who label what the model cannot, and where its samples differ; its majority is proposed
    to them. InputError where no request can succeed, or --max-cost ends the asking.
    """
    client = labeller.client
    client.budget = Budget(client.config.token_price, client.config.max_cost)
    words, name = [query.words for query in queries], f"round {number}"
    try:
        with client.replies.open():
            for reply in client.replies:
                client.budget.count(reply)
            found = label_all(labeller, words, f"{name}, asking")
    except InputError as error:
        raise InputError(f"{name}: {error}; --resume continues the run") from None
    if not_asked := sum(not labels.asked for labels in found):
        raise InputError(
            f"{name}: --max-cost {client.config.max_cost:g} leaves "
            f"{counted(not_asked, 'sentence')} without an answer; give more, and --resume"
        )
    pairs, samples = zip(queries, found, strict=True), client.config.samples
    result = [_answered(query, labels, samples, people=people) for query, labels in pairs]
    num_left = len(result) - len(answered(result))
    notes = [
        f"{name}: the language model labelled {len(result) - num_left} of "
        f"{counted(len(result), 'sentence')}",
        f"{'people label' if people else 'nobody labels'} the other {num_left}" if num_left else "",
        *(f"{kind}: {last}" for kind, (_, last) in fault_counts(found).items() if last),
        cost_note(client),
    ]
    text = "; ".join(filter(None, notes))
    if number == 0 and num_left == len(result) and not people:  # later rounds have a model
        raise InputError(f"{text}; the last problem: {found[-1].problem}")
    logger.info(text)
    return result


def _answered(query: Query, labels: Labels, num_samples: int, *, people: bool) -> Query:
    """The query with the tags of the model, or with what it proposes to people."""
    if not labels.is_labelled:
        return query
    tags = tuple(to_iob2(labels.tags))
    if not people or labels.samples == num_samples * [tags]:
        return query._replace(tags=tags)
    confidence = min(max(of_word.values()) for of_word in labels.shares)
    return query._replace(proposed=tags, confidence=float(f"{confidence:.4g}"))
