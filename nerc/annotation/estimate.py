"""Estimates, before anything is asked, what labels will cost."""

from collections.abc import Iterable
from dataclasses import dataclass

from nerc.annotation.llm import Labeller, Words
from nerc.annotation.replies import estimated_tokens, key_of

INLINE_TAGS, JSON = 8, 30  # about how many tokens an answer has, besides the inline sentence


@dataclass
class Estimate:
    """Requests that are still to be sent, without second tries, and their tokens."""

    requests: int = 0
    kept: int = 0  # requests whose replies are there
    prompt_tokens: float = 0.0
    reply_tokens: float = 0.0


def estimate(labeller: Labeller, sentences: Iterable[Words]) -> Estimate:
    """Count the requests for sentences; the replies that are kept correct the numbers of tokens."""
    found, replies = Estimate(), labeller.client.replies
    counted, guessed = [0, 0], [0, 0]  # tokens of questions and answers of kept replies
    for words in sentences:
        for body in labeller.bodies(words):
            asked = estimated_tokens(body["messages"])
            answered = INLINE_TAGS + estimated_tokens([{"content": " ".join(words)}])
            answered = answered if labeller.prompt.form == "inline" else JSON
            reply = replies.get(key_of(body))
            if reply is None:
                found.requests += 1
                found.prompt_tokens += asked
                found.reply_tokens += answered
            else:
                found.kept += 1
                counted[0] += reply.prompt_tokens
                counted[1] += reply.reply_tokens
                guessed[0] += asked
                guessed[1] += answered
    if found.kept:
        found.prompt_tokens *= counted[0] / guessed[0]
        found.reply_tokens *= counted[1] / guessed[1]
    return found
