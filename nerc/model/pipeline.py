"""The entities of raw text: NERSmall.predict, and the same as a pipeline of transformers."""

from collections import Counter, deque
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import Any

import numpy as np
from transformers import Pipeline, PreTrainedModel, PreTrainedTokenizerBase

from nerc.data.corpus import Sentence
from nerc.data.tags import entities
from nerc.data.words import Text
from nerc.model import calibration
from nerc.model.inference import STREAM_CHUNK, predict_stream


def tag_texts(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    chunks: Iterable[Sequence[Text]],
    *,
    bf16: bool = False,
    encoding_stats: Counter | None = None,
) -> Iterator[list[tuple[list[str], list[dict[str, Any]]]]]:
    """For each chunk of texts, the tags of the words and the entities of each; see stream()."""
    waiting: deque[Sequence[Text]] = deque()

    def sentences() -> Iterator[list[Sentence]]:
        for chunk in chunks:
            waiting.append(chunk)
            yield [Sentence(text.words, None, "", 0) for text in chunk if text.spans]

    for found in predict_stream(
        model, tokenizer, sentences(), bf16=bf16, encoding_stats=encoding_stats
    ):
        results = iter(found)
        answers = []
        for text in waiting.popleft():
            labels, row = next(results) if text.spans else ([], None)
            answers.append((labels, _entities(text, labels, row, model.config)))
        yield answers


def _entities(
    text: Text, labels: Sequence[str], row: np.ndarray | None, config
) -> list[dict[str, Any]]:
    """Type, text, characters, words and confidence of each entity."""
    found = entities(labels)
    if not found:
        return []
    raw = calibration.confidences(found, row, config.word_tags)
    result = []
    for entity, confidence in zip(
        found, calibration.calibrated(raw, config.calibration), strict=True
    ):
        start, end = text.spans[entity.start][0], text.spans[entity.end - 1][1]
        result.append(
            {
                "type": entity.type,
                "text": text.text[start:end],
                "start": start,
                "end": end,
                "words": [entity.start, entity.end],
                "confidence": round(float(confidence), 4),
            }
        )
    return result


def predict(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, texts: Iterable[str]
) -> Iterator[list[dict[str, Any]]]:
    """The entities of each of the texts, of any number, in float32."""
    texts = iter(texts)
    chunks = iter(lambda: [_text(text) for text in islice(texts, STREAM_CHUNK)], [])
    for answers in tag_texts(model, tokenizer, chunks):
        yield from (found for _, found in answers)


def _text(text: str) -> Text:
    if not isinstance(text, str):
        raise TypeError(f"wanted texts, each a str, and found {type(text).__name__}: {text!r:.60}")
    return Text.of(text)


class NERPipeline(Pipeline):
    """pipeline("token-classification", model=..., pipeline_class=NERPipeline).

    It finds what NERSmall.predict finds, in the form of transformers' own pipeline, which hands the
    model no words (it takes each word piece for one) and finds less. Lists, data sets and
    generators are computed together; batch_size changes nothing.
    """

    _load_processor = False
    _load_image_processor = False
    _load_feature_extractor = False
    _load_tokenizer = True

    def __init__(self, model: PreTrainedModel, tokenizer=None, **kwargs) -> None:
        super().__init__(model=model, tokenizer=tokenizer or model.tokenizer, **kwargs)

    def __call__(self, inputs, **kwargs):
        if isinstance(inputs, (list, tuple)) and not inputs:
            return []
        return super().__call__(inputs, **kwargs)

    def _sanitize_parameters(self, **given):
        if given:
            names = ", ".join(given)
            raise ValueError(f"NERPipeline finds whole entities and has no {names}; leave it out")
        return {}, {}, {}

    def preprocess(self, text: str) -> list[str]:
        return [text]

    def _forward(self, texts: list[str]) -> list[dict[str, Any]]:
        return next(predict(self.model, self.tokenizer, texts))

    def postprocess(self, found: list[dict[str, Any]]) -> list[dict[str, Any]]:
        return [
            {
                "entity_group": entity["type"],
                "score": entity["confidence"],
                "word": entity["text"],
                "start": entity["start"],
                "end": entity["end"],
            }
            for entity in found
        ]

    def get_iterator(self, inputs, *_):
        return map(self.postprocess, predict(self.model, self.tokenizer, inputs))
