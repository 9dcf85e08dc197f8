"""Labels sentences by asking a language model: several samples, second tries, and verification."""

import hashlib
import json
import queue
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from threading import Thread
from typing import Any

from nerc.annotation.alignment import Fault, Misfit, Target
from nerc.annotation.chat import Client, NoReply, NotAsked, Stopped
from nerc.annotation.prompt import PROMPT, Examples, Message, Prompt, read_definitions
from nerc.annotation.replies import Reply
from nerc.data import tags
from nerc.data.corpus import Corpus
from nerc.data.tags import Entity, entities, entity_tags
from nerc.errors import InputError
from nerc.progress import Progress

Words = tuple[str, ...]
Tags = tuple[str, ...]

DEFAULT_EXAMPLES = 8


@dataclass
class Labels:
    """What a language model says of one sentence."""

    words: Words
    samples: list[Tags] = field(default_factory=list)  # IOB2, of the replies that fit
    votes: list[Counter[str]] = field(default_factory=list)  # for each word, of all samples
    first_faults: Counter[str] = field(default_factory=Counter)  # of the first replies
    num_repaired: int = 0  # replies that a second try replaced
    fault: Fault | None = None  # why it stays unlabelled
    problem: str = ""  # the last one, in words
    reply: str = ""  # that had it
    asked: bool = True  # False: some request waits for a batch, or for money
    num_unclear: int = 0  # verifications that were answered with neither yes nor no

    @property
    def is_labelled(self) -> bool:
        return self.asked and bool(self.votes)

    @property
    def shares(self) -> list[dict[str, float]]:
        """The share of each tag, for each word; the most frequent first."""
        return [
            {tag: n / of_word.total() for tag, n in of_word.most_common()} for of_word in self.votes
        ]

    @property
    def tags(self) -> Tags:
        """The most frequent tag of each word; of several, that of the earliest sample."""
        return tuple(of_word.most_common(1)[0][0] for of_word in self.votes)


@dataclass(frozen=True)
class Labeller:
    """Asks for the labels of sentences."""

    client: Client
    prompt: Prompt
    examples: Examples
    num_examples: int

    @classmethod
    def of(cls, client: Client, experts: Corpus | None, types: Sequence[str]) -> "Labeller":
        """What the client's settings ask for; experts: whose sentences are examples.

        types: that entities may have; none: those of --definitions.
        """
        config = client.config
        definitions = read_definitions(config.definitions, types)
        if config.examples and not experts:
            raise InputError(
                f"--examples {config.examples}: needs expert sentences, and there are none"
            )
        experts = of_types(experts or Corpus.of(()), types)
        prompt = Prompt.read(Path(config.prompt or PROMPT), definitions, config.format)
        number = DEFAULT_EXAMPLES if config.examples is None else config.examples
        examples = Examples(experts)
        return cls(client, prompt, examples, min(number, len(examples.sentences)))

    @property
    def settings(self) -> dict[str, Any]:
        """What the labels depend on, besides the sentences."""
        config = self.client.config
        text = json.dumps([self.prompt.sections[name] for name in sorted(self.prompt.sections)])
        return {
            "model": config.model,
            "format": config.format,
            "definitions": dict(self.prompt.definitions),
            "examples": self.num_examples,
            "prompt_sha256": hashlib.sha256(text.encode()).hexdigest(),
            "samples": config.samples,
            "verify": config.verify,
            "temperature": config.temperature_of(sample=config.samples > 1),
            "max_reply_tokens": config.max_reply_tokens,
            "extra": config.extra_fields,
        }

    def messages(self, words: Words) -> list[Message]:
        return self.prompt.ask(words, self.examples.nearest(words, self.num_examples))

    def bodies(self, words: Words) -> list[dict[str, Any]]:
        """The first requests for a sentence, one for each sample."""
        messages, text, number = self.messages(words), " ".join(words), self.client.config.samples
        samples = range(number) if number > 1 else [None]
        return [self.client.body(messages, text, sample) for sample in samples]

    def label(self, words: Words) -> Labels:
        """The labels of a sentence; InputError where no request can succeed."""
        labels = Labels(words)
        target = Target(words, self.prompt.definitions)
        try:
            target.check(self.prompt.form)
        except Misfit as misfit:
            labels.fault, labels.problem = misfit.fault, str(misfit)
            return labels
        for body in self.bodies(words):
            try:
                self._sample(body, target, labels)
            except NotAsked:
                labels.asked = False
        # With more faulty samples than good ones, what the good ones agree on says little.
        if labels.asked and 2 * len(labels.samples) > self.client.config.samples:
            labels.votes = [Counter(of_word) for of_word in zip(*labels.samples, strict=True)]
            labels.fault = None
            if self.client.config.verify:
                self._verify(labels)
        return labels

    def _sample(self, body: dict[str, Any], target: Target, labels: Labels) -> None:
        """Add the tags of one sample, or say what is wrong with it."""
        for is_second in (False, True):
            reply = None
            try:
                reply = self.client.ask(body)
                labels.samples.append(_tags(reply, target, self.prompt.form))
                labels.num_repaired += is_second
                return
            except NoReply as error:
                labels.fault, labels.problem = Fault.NO_REPLY, str(error)
            except Misfit as misfit:
                labels.fault, labels.problem = misfit.fault, str(misfit)
            labels.first_faults[labels.fault] += not is_second
            labels.reply = reply.content if reply else ""
            if reply is None:
                return
            about = reply.content, labels.problem, target.words
            body = body | {"messages": self.prompt.ask_again(body["messages"], *about)}

    def _verify(self, labels: Labels) -> None:
        """Ask about each entity that not all samples have; the answer is one more vote."""
        number = Counter(entity for sample in labels.samples for entity in entities(sample))
        text = " ".join(labels.words)
        for entity in sorted(number, key=lambda e: (e.start, e.end, e.type)):
            if number[entity] == len(labels.samples):
                continue
            body = self.client.body(self.prompt.verify(labels.words, *entity), text, None)
            try:
                answer = _yes_or_no(self.client.ask(body).content)
            except NotAsked:
                labels.asked = False
                continue
            except NoReply:
                answer = None
            if answer is None:
                labels.num_unclear += 1
            else:
                _add_vote(labels.votes, entity, answer)


def _tags(reply: Reply, target: Target, form: str) -> Tags:
    if reply.refusal or reply.finish == "content_filter":
        raise Misfit(Fault.REFUSED, "There was no answer.")
    if reply.finish == "length":
        raise Misfit(Fault.CUT_OFF, "The answer was too long and was cut off.")
    return target.tags(reply.content, form)


def _yes_or_no(text: str) -> bool | None:
    word = text.rpartition("</think>")[2].strip().strip("*\"'.!").casefold()
    return {"yes": True, "no": False}.get(word)


def _add_vote(votes: list[Counter[str]], entity: Entity, is_right: bool) -> None:
    size = entity.end - entity.start
    tags = entity_tags(entity.type, size) if is_right else ["O"] * size
    for of_word, tag in zip(votes[entity.start : entity.end], tags, strict=True):
        of_word[tag] += 1


def of_types(experts: Corpus, types: Sequence[str]) -> Corpus:
    """The expert sentences, in which entities of other types count for nothing; (): all types."""
    others = tags.types_of(experts.tag_counts()) - {*types} if types else ()
    return experts.renamed(dict.fromkeys(others, "O"))


# ------------------------------------------------------------ many sentences


def label_all(labeller: Labeller, sentences: Sequence[Words], name: str) -> list[Labels]:
    """The labels of sentences, many of which are asked for at once.

    Where the command is interrupted, the requests that are under way still get their replies, which
    are kept.
    """
    client, results = labeller.client, queue.SimpleQueue()
    client.connect()
    client.stop.clear()
    places = iter(range(len(sentences)))
    labels: list[Labels | None] = [None] * len(sentences)

    def work() -> None:
        try:
            # A generator of numbers gives each of them once, whichever thread asks.
            while not client.stop.is_set() and (place := next(places, None)) is not None:
                results.put((place, labeller.label(sentences[place])))
        except Stopped:
            pass
        except BaseException as error:  # for the main thread to raise
            results.put((None, error))

    number = min(client.config.concurrency, len(sentences))
    threads = [Thread(target=work, name=f"asking {i}") for i in range(number)]
    try:
        for thread in threads:
            thread.start()
        with Progress(name, len(sentences), unit="sentence") as progress:
            for _ in sentences:
                place, result = results.get()
                if place is None:
                    raise result
                labels[place] = result
                progress.advance(len(result.words), cost_note(client))
    finally:
        client.stop.set()
        for thread in threads:
            with suppress(RuntimeError):  # where a signal came before it was started
                thread.join()
        client.close()
    return labels


def cost_note(client: Client) -> str:
    cost = client.budget.cost
    return "" if cost is None else f"cost {money(cost)}"


def money(amount: float) -> str:
    """An amount with two digits: 1,234.50, 0.0012."""
    return f"{amount:,.2f}" if amount >= 1 or not amount else f"{amount:.2g}"


def fault_counts(labels: Sequence[Labels]) -> dict[str, tuple[int, int]]:
    """By kind of fault: the first replies that had it, and the sentences unlabelled for it."""
    first, last = Counter(), Counter()
    for of_one in labels:
        first.update(of_one.first_faults)
        if of_one.fault is not None:
            last[of_one.fault] += 1
    return {kind: (first[kind], last[kind]) for kind in Fault if first[kind] or last[kind]}
