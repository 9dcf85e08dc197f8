"""The model card of a revision: how to install nerc, how it was trained, its scores, its use."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from huggingface_hub import EvalResult, ModelCardData

from nerc import hub, tables
from nerc.data.sources import CONLL2003_ON_THE_HUB
from nerc.errors import visible

_LABELS = {"gold": "expert labels", "llm": "a language model's labels", "mixed": "both labels"}
_NAMES = {
    "loss": "Loss per word",
    "accuracy": "Word accuracy",
    "precision": "Entity precision",
    "recall": "Entity recall",
    "f1": "Entity F1",
    "strict_f1": "Entity F1, strict IOB2",
    **{kind: kind.capitalize() for kind in ("sentences", "words", "entities")},
    "support": "entities",
}


def model_card(
    name: str, metrics: Mapping[str, dict[str, Any]], run: dict[str, Any], *, calibrated: bool
) -> str:
    """README.md from the contents of metrics.json and run.json; its metadata has every figure.

    calibrated: whether the model's confidences are calibrated on the validation split.
    """
    text = [
        "This model needs nerc. To install it, run `pip install .` in a clone of nerc's "
        "repository.",
        f"# {name}",
        "A tagger for named entities, trained with nerc; `run.json` holds all settings.",
        "\n".join(f"- {what}: {value}" for what, value in _facts(run).items()),
        *_report(metrics),
        _use(name),
        _CONFIDENCES[calibrated],
        _LIMITS,
        "## Licence",
        _LICENCES[_is_ours(run)],
    ]
    return f"---\n{metadata(name, metrics, run).to_yaml()}\n---\n\n" + "\n\n".join(text) + "\n"


def metadata(
    name: str, metrics: Mapping[str, dict[str, Any]], run: dict[str, Any]
) -> ModelCardData:
    """What the Hub reads: data set, base model and every figure of every split (model-index)."""
    corpus, encoder = run["config"]["corpus"], run["config"]["encoder"]
    dataset, title = _dataset(corpus)
    about = {"task_type": "token-classification", "task_name": "Named-entity recognition"}
    about |= {"dataset_type": dataset, "dataset_name": title}
    results = [
        EvalResult(
            dataset_split=split, metric_type=kind, metric_name=metric, metric_value=value, **about
        )
        for split, report in metrics.items()
        for kind, metric, value in _figures(report)
    ]
    return ModelCardData(
        model_name=name if results else None,
        eval_results=results or None,
        library_name="nerc",
        pipeline_tag="token-classification",
        tags=["nerc", "named-entity-recognition"],
        language="en" if _is_builtin(corpus) or corpus == "conll2003" else None,
        license="mit" if _is_ours(run) else "other",
        datasets=[dataset] if _is_on_hub(corpus) and not _is_builtin(corpus) else None,
        base_model=encoder if encoder and encoder != "tiny" and _is_on_hub(encoder) else None,
    )


def _figures(report: Mapping[str, Any]) -> Iterator[tuple[str, str, float]]:
    """Kind, name and value of every figure; the names of a type's figures begin with the type."""
    yield from ((kind, _NAMES[kind], value) for kind, value in report.items() if kind != "types")
    for type_, scores in report["types"].items():
        for kind, value in scores.items():
            name = f"{visible(type_)} {_NAMES[kind].removeprefix('Entity ')}"
            yield kind, f"Type {name}" if name in _NAMES.values() else name, value


def _facts(run: dict[str, Any]) -> dict[str, str]:
    """What the card tells about the training, by name."""
    config, data = run["config"], run["data"]["train"]
    start = f"revision {config['start']}" if config["start"] else config["encoder"]
    if not config["start"] and not _is_on_hub(start):
        start = Path(start).name
    experts = config["expert"] or ("none" if config["data"] == "llm" else "all")
    if active := run.get("active"):
        experts = f"{active['sentences']:,}, {active['words']:,} words"
    asked, learnt = "expert sentences", _LABELS[config["data"]]
    if model := active and active["plan"].get("model"):
        asked = "sentences labelled by experts or a language model"
        experts, learnt = f"{experts} ({model})", "labels of experts or language models"
    units = config["lstm_hidden_size"]
    facts = {
        "trained on": f"{learnt} of {_dataset(config['corpus'])[1]}, "
        f"{data['sentences']:,} sentences",
        asked: experts,
        "started from": start,
        "BiLSTM": f"{units} units per direction" if units else "none",
        "reads the shapes of words": config.get("word_shapes"),
        "reads beside a sentence": config.get("context"),
        "recipe": f"{config['recipe']}: {config['optimizer']}, epochs: {config['epochs']}, "
        f"batches of {config['batch_size']}, seed {config['seed']}, {run['precision']}",
        "active learning": active and f"round {active['round']}, {active['strategy'] or 'random'}",
        "combined by": config.get("combine"),
        "weak labels repaired": ", ".join(config.get("repair") or ()),
    }
    return {what: visible(str(value)) for what, value in facts.items() if value}


def _report(metrics: Mapping[str, dict[str, Any]]) -> list[str]:
    if not metrics:
        return ["It has not been evaluated."]
    columns = ["loss", "accuracy", "precision", "recall", "f1", "strict_f1"]
    types = list(dict.fromkeys(t for report in metrics.values() for t in report["types"]))
    rows = [["split", *columns, *(f"{type_} f1" for type_ in types)]]
    for split, report in metrics.items():
        figures = [report[column] for column in columns]
        figures += [report["types"].get(type_, {}).get("f1", 0.0) for type_ in types]
        rows.append([split, *(f"{figure:.5f}" for figure in figures)])
    note = (
        "Entities are counted as by conlleval, in seqeval's default mode; accuracy is the share of "
        "words with the right tag. The epoch was chosen by the validation split, unless `run.json` "
        "says `keep: last`; nothing was chosen by the test split."
    )
    return ["## Report", tables.markdown(rows), note]


def _use(name: str) -> str:
    return f"""## Use

REPO is the folder or the repository on the Hub that holds this revision:

    from nerc import NERSmall
    model = NERSmall.from_pretrained("REPO", revision="{name}")
    model.predict(["Angela Merkel visited Paris."])

or `python -m nerc predict --repo REPO --revision {name} < text.txt`."""


_LIMITS = """## Limits

The model knows the entity types of its training data, and text like it. On other text it finds
less than the report says, and its confidences are too high. How well it finds names of different
origins was not measured."""

_CONFIDENCES = {
    True: "Each entity comes with a confidence, the probability that exactly this entity is there, "
    "calibrated on the validation split.",
    False: "Each entity comes with a confidence, which is not calibrated, and probably too high.",
}


_LICENCES = {
    True: "MIT, as nerc and its built-in corpus.",
    False: "nerc is under the MIT licence. The weights come from an encoder and a corpus that have "
    "licences of their own; observe these when you pass the weights on.",
}


def _is_ours(run: dict[str, Any]) -> bool:
    """Whether nothing but nerc's own went into the weights."""
    return _is_builtin(run["config"]["corpus"]) and run["config"]["encoder"] == "tiny"


def _dataset(corpus: str) -> tuple[str, str]:
    """The id and the title of a corpus."""
    if _is_builtin(corpus):
        return "nerc-sample", "nerc's built-in corpus"
    if corpus == "conll2003":
        return CONLL2003_ON_THE_HUB, "CoNLL-2003"
    if _is_on_hub(corpus):
        return corpus, corpus
    name = visible(Path(corpus).resolve().name)
    return name, f"the folder {name}"


def _is_builtin(corpus: str) -> bool:
    return corpus.partition(":")[0] == "sample"


def _is_on_hub(name: str) -> bool:
    return not Path(name).exists() and ("/" not in name or hub.is_name(name))
