"""Finds the entities of raw text, for NERSmall.predict and as a pipeline of transformers."""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import Any

import numpy as np
from transformers import Pipeline, PreTrainedModel, PreTrainedTokenizerBase

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
) -> Iterator[list[tuple[Text, list[str], list[dict[str, Any]]]]]:
    """For each chunk: its texts, each with its tags and entities; see inference.predict_stream."""
    about = {"bf16": bf16, "encoding_stats": encoding_stats}
    for chunk in predict_stream(model, tokenizer, chunks, **about):
        yield [(text, tags, _entities(text, tags, row, model.config)) for text, tags, row in chunk]


def _entities(
    text: Text, text_tags: Sequence[str], row: np.ndarray | None, config
) -> list[dict[str, Any]]:
    """Type, text, characters, words and confidence of each entity."""
    predicted = entities(text_tags)
    if not predicted:
        return []
    raw = calibration.confidences(predicted, row, config.word_tags)
    confidences = calibration.calibrated(raw, config.calibration)
    result = []
    for entity, confidence in zip(predicted, confidences, strict=True):
        start, end = text.spans[entity.start][0], text.spans[entity.end - 1][1]
        place = {"text": text.text[start:end], "start": start, "end": end}
        place |= {"words": [entity.start, entity.end], "confidence": round(float(confidence), 4)}
        result.append({"type": entity.type} | place)
    return result


def predict(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, texts: Iterable[str]
) -> Iterator[list[dict[str, Any]]]:
    """The entities of each of any number of texts, computed in float32."""
    texts = map(_text, texts)
    chunks = iter(lambda: list(islice(texts, STREAM_CHUNK)), [])
    for chunk in tag_texts(model, tokenizer, chunks):
        yield from (predicted for _, _, predicted in chunk)


def _text(text: str) -> Text:
    if not isinstance(text, str):
        raise TypeError(f"wanted texts, each a str, and found {type(text).__name__}: {text!r:.60}")
    return Text.of(text)


class NERPipeline(Pipeline):
    """pipeline("token-classification", model=..., pipeline_class=NERPipeline).

    It finds what NERSmall.predict finds and returns it in the form of transformers' own pipeline,
    which takes each word piece for a word and finds less. Lists, data sets and generators are
    computed together; batch_size changes nothing.
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

    def _sanitize_parameters(self, aggregation_strategy: str = "simple", **others):
        """Accept aggregation_strategy="simple", which is what the pipeline does in any case."""
        if aggregation_strategy != "simple":
            raise ValueError(
                f"aggregation_strategy must be 'simple' or left out, not "
                f"{str(aggregation_strategy)!r}: the output of NERPipeline is always grouped into "
                f"entities"
            )
        if others:
            raise ValueError(f"NERPipeline has no {', '.join(others)}; leave it out")
        return {}, {}, {}

    def preprocess(self, text: str) -> list[str]:
        return [text]

    def _forward(self, texts: list[str]) -> list[dict[str, Any]]:
        return next(predict(self.model, self.tokenizer, texts))

    def postprocess(self, predicted: list[dict[str, Any]]) -> list[dict[str, Any]]:
        names = {"entity_group": "type", "score": "confidence", "word": "text"}
        names |= {"start": "start", "end": "end"}
        return [{name: entity[ours] for name, ours in names.items()} for entity in predicted]

    def get_iterator(self, inputs, *_):
        return map(self.postprocess, predict(self.model, self.tokenizer, inputs))
