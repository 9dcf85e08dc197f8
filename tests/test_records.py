"""Records of runs: which form a group, and the table of a store."""

import json

import pytest
from conftest import refused

from nerc import tables
from nerc.commands import results
from nerc.errors import InputError
from nerc.store import records


def run(**config) -> dict:
    values = {
        "data": "gold",
        "recipe": "strong",
        "seed": 0,
        "corpus": "/a/conll",
        "encoder": "/a/b",
    }
    return {"config": values | config, "data": {}, "precision": "bf16"}


def test_runs_that_differ_in_the_seed_alone_form_a_group():
    runs = {
        "a": run(),
        "b": run(seed=1, num_threads=4, corpus="/elsewhere/conll"),
        "c": run(lr=1e-3),
        "old": {},
        "older": {},
        "d": run(seed=2) | {"precision": "float32"},
    }
    assert records.by_configuration(runs) == [["a", "b"], ["c"], ["old"], ["older"], ["d"]]


def test_runs_on_other_sentences_form_their_own_groups():
    def of(train, test, **config):
        data = {split: {"sha256": sha} for split, sha in (("train", train), ("test", test))}
        return run(**config) | {"data": data}

    runs = {
        "a": of("t", "x"),
        "of another test": of("t", "y", seed=1),
        "of another train": of("u", "x", seed=1),
        "drawn": of("v", "x", expert="12%"),
        "drawn by seed 1": of("w", "x", expert="12%", seed=1),
    }
    assert records.by_configuration(runs) == [*([name] for name in [*runs][:3]), [*runs][3:]]


def test_spread_by_hand():
    assert tables.spread([2.0]) == "2.00"
    assert tables.spread([1.0, 2.0, 3.0]) == "2.00 ± 1.00"
    assert tables.spread([0.5, 0.7], 3) == "0.600 ± 0.141"


@pytest.mark.parametrize("text", ["[]", "{", '{"test": {}}', '{"test": {"f1": "x", "loss": 1.0}}'])
def test_damaged_reports_are_reported(tmp_path, text):
    (tmp_path / "metrics.json").write_text(text)
    with pytest.raises(InputError, match="metrics.json: is damaged"):
        records.read_metrics(tmp_path)


def write(folder, config: dict, f1: float) -> None:
    folder.mkdir()
    metrics = {split: {"f1": f1, "loss": 1.0, "accuracy": 0.5} for split in ("validation", "test")}
    (folder / "run.json").write_text(json.dumps(run(**config)))
    (folder / "metrics.json").write_text(json.dumps(metrics))


def test_the_table_of_a_store(tmp_path, capsys):
    write(tmp_path / "one", {"data": "llm", "lr": 1e-4}, 0.5)
    write(tmp_path / "two", {"lr": 1e-4}, 0.7)
    write(tmp_path / "three", {"lr": 1e-4, "seed": 1}, 0.8)
    write(tmp_path / "four", {"recipe": "paper", "lr": 1e-3}, 0.1)
    rows = results.results_table(tmp_path)
    # What the recipe decides, the learning rate here, is no column of its own.
    assert rows[0] == [
        *("--data", "--recipe", "seeds"),
        *("validation F1", "test F1", "test accuracy"),
    ]
    assert rows[1:] == [
        ["gold", "paper", "0", "10.00", "10.00", "50.00"],
        ["gold", "strong", "0, 1", "75.00 ± 7.07", "75.00 ± 7.07", "50.00 ± 0.00"],
        ["llm", "strong", "0", "50.00", "50.00", "50.00"],
    ]
    write(tmp_path / "five", {"lr": 1e-3}, 0.2)
    assert results.results_table(tmp_path)[0][2] == "--lr"
    results.main(["--repo", str(tmp_path)])
    assert capsys.readouterr().out == tables.markdown(results.results_table(tmp_path)) + "\n"


def test_a_store_without_results_is_reported(tmp_path, capsys):
    with pytest.raises(SystemExit) as stop:
        results.main(["--repo", str(tmp_path)])
    assert stop.value.code == 2 and "holds no revision" in capsys.readouterr().err
    write(tmp_path / "one", {}, 0.5)
    for place, said in ((tmp_path / "none", "is no folder"), (tmp_path / "one", "is a revision")):
        with pytest.raises(InputError, match=said):
            results.results_table(place)
    assert "unrecognized arguments: tabel" in refused(results, capsys, "tabel")
