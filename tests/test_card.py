"""The model card, read back as the Hub reads it."""

import json

import pytest
from huggingface_hub import ModelCard

from nerc.errors import visible
from nerc.store import card


def figures(metrics: dict) -> dict[tuple[str, str, str], float]:
    """Every figure of metrics.json by split, the type of the entities ("" for all) and kind."""
    found = {}
    for split, report in metrics.items():
        for kind, value in report.items():
            if kind != "types":
                found[split, "", kind] = value
        for type_, scores in report["types"].items():
            found |= {(split, type_, kind): value for kind, value in scores.items()}
    return found


def test_every_figure_is_in_the_metadata(store, folder):
    metrics = json.loads((store / "model_primary/metrics.json").read_text())
    read = ModelCard.load(store / "model_primary/README.md").data
    found = {}
    for result in read.eval_results:
        assert (result.task_type, result.dataset_type) == ("token-classification", folder.name)
        first = result.metric_name.split()[0]
        type_ = first if first in metrics["test"]["types"] else ""
        found[result.dataset_split, type_, result.metric_type] = result.metric_value
    assert found == figures(metrics) and len(found) > 40
    names = {(r.dataset_split, r.metric_name): r.metric_value for r in read.eval_results}
    assert names["test", "Entity F1"] == metrics["test"]["f1"]
    assert names["validation", "PER recall"] == metrics["validation"]["types"]["PER"]["recall"]
    assert len(names) == len(found)
    assert read.pipeline_tag == "token-classification" and read.license == "other"


def test_the_card_tells_how_it_was_trained_without_paths_of_the_machine(store, folder):
    text = (store / "model_primary/README.md").read_text()
    run = json.loads((store / "model_primary/run.json").read_text())
    assert f"strong: adamw, epochs: 2, batches of 8, seed 0, {run['precision']}" in text
    assert "expert labels of the folder" in text and "## Limits" in text and "## Licence" in text
    assert 'NERSmall.from_pretrained("REPO", revision="model_primary")' in text
    assert str(folder) not in text and str(folder.parent) not in text


def test_the_card_begins_with_how_to_install_nerc(store):
    _, metadata, text = (store / "model_primary/README.md").read_text().split("---\n", 2)
    assert "library_name: nerc" in metadata
    assert text.split("\n")[1].endswith("run `pip install .` in a clone of nerc's repository.")


@pytest.mark.parametrize(
    "corpus, base, wanted",
    [
        ("conll2003", "bert-base-cased", ("lhoestq/conll2003", "bert-base-cased", "other", "en")),
        ("USER/text", "USER/bert", ("USER/text", "USER/bert", "other", None)),
        ("sample:200", "tiny", ("nerc-sample", None, "mit", "en")),
        ("/data/notes", "/data/bert", ("notes", None, "other", None)),
    ],
)
def test_the_metadata_name_only_what_is_on_the_hub(store, corpus, base, wanted):
    run = json.loads((store / "model_primary/run.json").read_text())
    metrics = json.loads((store / "model_primary/metrics.json").read_text())
    run["config"] |= {"corpus": corpus, "encoder": base}
    found = card.metadata("mine", metrics, run)
    dataset, on_hub, licence, language = wanted
    assert {r.dataset_type for r in found.eval_results} == {dataset}
    assert (found.base_model, found.license, found.language) == (on_hub, licence, language)
    assert found.datasets == ([dataset] if "/" in dataset else None)


NAMES = ["a\nb", "x\n---\nlicense: gpl", "a: b", 'it\'s "x"', "---", "true", "{x}", "- x", "a|b"]
NAMES += ["\x1b[2J", "a\x85b\u2028c", "\u202e", "#", "&a *b", "Entity", "@@", "null", "1e3", "\x9b"]


@pytest.mark.parametrize("name", NAMES)
def test_no_name_breaks_the_card(store, tmp_path, name):
    run = json.loads((store / "model_primary/run.json").read_text())
    metrics = json.loads((store / "model_primary/metrics.json").read_text())
    run["config"] |= {"corpus": str(tmp_path / name), "encoder": str(tmp_path / name)}
    type_ = "".join(name.split())
    for report in metrics.values():
        report["types"] = {type_: report["types"]["PER"] | {"f1": 0.125}}
    text = card.model_card("mine", metrics, run, calibrated=True)
    assert text.replace("\n", "").isprintable()
    plain = run | {"config": run["config"] | {"corpus": "/x/y", "encoder": "/x/y"}}
    body, plain_body = (
        ModelCard(t).text for t in (text, card.model_card("mine", metrics, plain, calibrated=True))
    )
    assert body.count("\n") == plain_body.count("\n")
    assert f"the folder {visible(name)}, " in body
    read = ModelCard(text).data
    assert read.license == "other" and {r.dataset_type for r in read.eval_results} == {
        visible(name)
    }
    found = {(r.dataset_split, r.metric_name): r.metric_value for r in read.eval_results}
    assert len(found) == len(read.eval_results) == len(figures(metrics))
    assert 0.125 in found.values() and found["test", "Entity F1"] == metrics["test"]["f1"]


def test_a_revision_that_was_not_evaluated_has_a_card(store):
    run = json.loads((store / "model_primary/run.json").read_text())
    text = card.model_card("mine", {}, run, calibrated=False)
    assert "which is not calibrated" in text
    assert "has not been evaluated" in text and ModelCard(text).data.eval_results is None
