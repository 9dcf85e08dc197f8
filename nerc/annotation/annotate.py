"""Labels the sentences of a folder with a model, and writes what it says and what it cost."""

import logging
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

from nerc.annotation import choose, estimate
from nerc.annotation.chat import Budget, Client
from nerc.annotation.config import AnnotateConfig, LlmConfig
from nerc.annotation.llm import Labeller, Labels, Words, fault_counts, label_all, money
from nerc.annotation.replies import MAX_IN_BATCH, Replies, read_batch, write_batch
from nerc.annotation.weak_files import WeakFiles
from nerc.config import Amount
from nerc.data import labels as mixing
from nerc.data import sources
from nerc.data.corpus import Corpus
from nerc.data.random_streams import Stream, generator
from nerc.data.sources import MissingSplit
from nerc.data.tags import entities, ordered
from nerc.errors import InputError
from nerc.tables import Table, counted, markdown, share, shown

logger = logging.getLogger(__name__)


@dataclass
class Job:
    """What one command labels, with what, and where it writes."""

    config: AnnotateConfig
    llm: LlmConfig
    files: WeakFiles
    sentences: Corpus
    experts: Corpus | None
    labeller: Labeller | None = field(default=None, init=False)

    @classmethod
    def of(cls, config: AnnotateConfig, llm: LlmConfig) -> "Job":
        """Read the corpus of a command."""
        if llm.model is None:
            raise InputError("--model must be the name of a model")
        experts = None
        try:
            experts = sources.load(config.corpus, "train", config.columns)
        except MissingSplit:
            if config.split == "train" or config.choose or config.expert:
                raise
        if config.split == "train":
            sentences = Corpus.of(sentence._replace(tags=None) for sentence in experts)
        else:
            sentences = sources.load(config.corpus, "unlabelled")
        for corpus in (experts, sentences):
            for note in corpus.notes if corpus else ():
                logger.info(note)
        if experts and config.expert is not None:
            places = mixing.draw(len(experts), config.expert, config.seed, "expert sentences")
            experts = experts.select(places)
        sentences = _drawn(sentences, config)
        files = WeakFiles(Path(config.corpus), config.name)
        return cls(config, llm, files, sentences, experts)

    @contextmanager
    def open(self) -> Iterator[None]:
        """Open the replies; while this lasts, no other command adds to them."""
        replies = Replies(self.files.replies)
        budget = Budget(self.llm.token_price, self.llm.max_cost)
        client = Client(self.llm, replies, budget)
        self.labeller = Labeller.of(client, self.experts, self.types)
        if self.config.dry_run:
            replies.read()
            yield
            return
        with replies.open():
            for path in self.config.batch_replies:
                read_batch(Path(path), replies)
            for reply in replies:
                budget.count(reply)
            yield

    @property
    def types(self) -> tuple[str, ...]:
        """Those of --types, or of the experts; (): those of --definitions."""
        known = self.experts.entity_types() if self.experts else ()
        return self.config.types or tuple(ordered(known))

    @property
    def words(self) -> list[Words]:
        """The different sentences."""
        return list(dict.fromkeys(sentence.words for sentence in self.sentences))

    # ------------------------------------------------------------ a language model

    def dry_run(self) -> str:
        """The first question, and what the questions will cost."""
        labeller, words = self.labeller, self.words
        found = estimate.estimate(labeller, words)
        question = "\n".join(f"{m['role']}: {m['content']}" for m in labeller.messages(words[0]))
        source = "4 bytes a token"
        if found.kept:
            source = f"the {counted(found.kept, 'reply')} that are kept"
        cost = labeller.client.budget.cost_of(found.prompt_tokens, found.reply_tokens)
        rows: Table = [
            ["", "number"],
            ["different sentences", len(words)],
            ["requests, without second tries", found.requests],
            [f"tokens of questions, estimated by {source}", round(found.prompt_tokens)],
            ["tokens of answers, estimated likewise", round(found.reply_tokens)],
            ["cost, estimated", money(cost) if self.llm.token_price else "- (--token-price)"],
        ]
        return f"{question}\n\n{markdown(shown(rows))}"

    def choose(self) -> str:
        """A table of ways to ask, and the flags of the best one."""
        number = self.config.choose
        if number > len(self.experts):
            raise InputError(
                f"--choose {number}: there are only {len(self.experts)} expert sentences; ask for "
                f"no more"
            )
        self.labeller.client.check_key()
        draw = generator(self.config.seed, Stream.EXPERT_DRAW).permutation(len(self.experts))
        client = self.labeller.client
        ways = choose.choose(client, self.experts, self.types, sorted(draw[:number]))
        best = choose.best(ways)
        return (
            f"{markdown(choose.table(ways))}\n\n"
            f"the best F1 on {counted(number, 'expert sentence')} (of equal ones, the first): "
            f"{best.flags}"
        )

    def write_batch(self) -> str:
        """Write the requests that lack a reply to a file."""
        client = self.labeller.client
        client.pending = {}
        label_all(self.labeller, self.words, "collecting")
        pending = client.pending
        path = self.config.batch
        if not pending:
            return "every request has its reply; the same command without --batch writes the labels"
        bodies = {key: client.sent(body) for key, body in list(pending.items())[:MAX_IN_BATCH]}
        write_batch(Path(path), bodies)
        left = len(pending) - len(bodies)
        more = f" ({left:,} are left for the next one, as such a file may hold no more)"
        return (
            f"{counted(len(bodies), 'request')} in {path}{more if left else ''}; send it to the "
            f"batch service, then give this command with --batch-replies and its output file: "
            f"without --batch, the server is asked for what is left"
        )

    def label(self) -> str:
        """Ask for all labels, write the files, and describe them."""
        settings = self.labeller.settings | self.source
        self.files.check_free(settings, overwrite=self.config.overwrite)
        client, words = self.labeller.client, self.words
        client.check_key()
        logger.info(f"asking {client.address} for labels of {counted(len(words), 'sentence')}")
        found = dict(zip(words, label_all(self.labeller, words, "annotating"), strict=True))
        of_all = [found[sentence.words] for sentence in self.sentences]
        labelled = [of_one for of_one in of_all if of_one.is_labelled]
        faults = fault_counts(list(found.values()))
        self.files.write_faults(self._fault_rows(found))
        if labelled or not self.files.labels.exists():  # of which the record tells
            self.files.write_record(self._record(settings, faults, len(labelled)))
        if not labelled:
            self._refuse(of_all, faults)
        pairs = zip(self.sentences, of_all, strict=True)
        self.files.write_labels((s, o.shares) for s, o in pairs if o.is_labelled)
        return self._report(of_all, faults)

    # ------------------------------------------------------------ what is written

    @property
    def source(self) -> dict[str, Any]:
        """Which sentences are labelled, and whose are examples."""
        about = {"labeller": self.config.labeller, "split": self.config.split}
        about |= {"sentences": self.sentences.describe()}
        return about | {"experts": self.experts.describe() if self.experts else None}

    def _record(
        self, settings: dict[str, Any], faults: dict[str, tuple[int, int]], num_labelled: int
    ) -> dict[str, Any]:
        client, budget = self.labeller.client, self.labeller.client.budget
        return {
            "settings": settings,
            "server": client.address,
            "server_models": sorted({reply.model for reply in client.replies if reply.model}),
            "labelled": num_labelled,
            "faults": {kind: {"first": a, "unlabelled": b} for kind, (a, b) in faults.items()},
            "sent_again": dict(client.retries),
            "replies": len(client.replies),
            "tokens": {"questions": budget.prompt_tokens, "answers": budget.reply_tokens},
            "estimated_counts": budget.num_estimated,
            "token_price": self.llm.token_price or None,
            "cost": budget.cost,
            "prompt": dict(self.labeller.prompt.sections),
            "openai_version": version("openai"),
        }

    def _fault_rows(self, found: dict[Words, Labels]) -> list[tuple[str, ...]]:
        rows = []
        for sentence in self.sentences:
            of_one = found[sentence.words]
            if not of_one.is_labelled:
                fault = of_one.fault if of_one.asked else "not asked"
                text = " ".join(sentence.words)
                rows.append((sentence.location, str(fault), of_one.problem, text, of_one.reply))
        return rows

    def _refuse(self, of_all: Sequence[Labels], faults: dict[str, tuple[int, int]]) -> None:
        """Raise InputError that says why no sentence got labels."""
        reasons = [f"{kind} {last:,}" for kind, (_, last) in faults.items() if last]
        not_asked = sum(not of_one.asked for of_one in of_all)
        reasons += [f"not asked, by --max-cost, {not_asked:,}"] if not_asked else []
        last = next((of_one.problem for of_one in of_all if of_one.problem), "")
        raise InputError(
            f"no sentence of {len(of_all):,} got labels: {', '.join(reasons)}"
            f"{last and f'; such as: {last}'}; see {self.files.faults}"
        )

    def _report(self, of_all: Sequence[Labels], faults: dict[str, tuple[int, int]]) -> str:
        """The tables of what came out, of the faults, and of the costs."""
        client, budget, number = self.labeller.client, self.labeller.client.budget, len(of_all)
        labelled = [of_one for of_one in of_all if of_one.is_labelled]
        types = Counter(e.type for of_one in labelled for e in entities(of_one.tags))
        not_asked = sum(not of_one.asked for of_one in of_all)
        repaired = sum(of_one.num_repaired > 0 for of_one in labelled)
        rows: Table = [
            ["", "number", "share"],
            ["sentences", number, ""],
            ["with labels", len(labelled), share(len(labelled), number)],
            ["of these, by a second try", repaired, share(repaired, number)],
            ["unlabelled", number - len(labelled), share(number - len(labelled), number)],
        ]
        if not_asked:
            rows.append(["of these, not asked: --max-cost", not_asked, share(not_asked, number)])
        if self.llm.verify:
            unclear = sum(of_one.num_unclear for of_one in labelled)
            rows.append(["verifications without a clear answer", unclear, ""])
        rows += [[f"entities: {type_}", types[type_], ""] for type_ in ordered(types)]
        rows += [
            ["requests now", client.num_asked, ""],
            ["replies kept, in all", len(client.replies), ""],
            ["tokens of questions", budget.prompt_tokens, ""],
            ["tokens of answers", budget.reply_tokens, ""],
            ["cost", "-" if budget.cost is None else money(budget.cost), ""],
        ]
        parts = [markdown(shown(rows))]
        if faults:
            table: Table = [["Fault of a reply", "first tries", "different sentences unlabelled"]]
            table += [[kind, first, last] for kind, (first, last) in faults.items()]
            parts.append(markdown(shown(table)))
        if client.retries:
            again = ", ".join(f"{n:,} after {kind}" for kind, n in client.retries.most_common())
            parts.append(f"sent again: {again}")
        if budget.num_estimated:
            parts.append(
                f"the server did not count the tokens of {counted(budget.num_estimated, 'reply')}, "
                f"which are estimated"
            )
        where = f"labels: {self.files.labels}; record: {self.files.record}"
        if len(labelled) < number:
            where += f"; unlabelled sentences: {self.files.faults}"
        return "\n\n".join([*parts, where])


def _drawn(sentences: Corpus, config: AnnotateConfig) -> Corpus:
    """The sentences that --sentences draws, in their order."""
    if config.sentences is None:
        return sentences
    number = Amount.parse(config.sentences, "sentences").num_sentences(len(sentences))
    if number > len(sentences):
        what = f"{len(sentences):,} sentences in {config.split}.txt"
        raise InputError(f"--sentences {number}: there are only {what}; ask for no more")
    draw = generator(config.seed, Stream.UNLABELLED_DRAW).permutation(len(sentences))
    return sentences.select(sorted(draw[:number]))
