"""Learning curves from a store alone: areas, leads and labels needed, as worked out by hand."""

import csv
import json

import pytest
from conftest import refused

from nerc.active_learning import curves
from nerc.commands import curves as command
from nerc.data.pool import Query
from nerc.errors import InputError
from nerc.store import query_records
from nerc.store.revisions import Store

PLAN = {"add": "10", "data": "mixed"}


def revision(repo, name, f1, *, active=None, asked=(), **config):
    """A folder with the records of a revision, and no weights."""
    place = repo / name
    place.mkdir(parents=True)
    (place / "config.json").write_text("{}")
    scores = {"f1": f1, "loss": 1.0}
    metrics = {"test": scores, "validation": scores | {"f1": f1 / 2}}
    (place / "metrics.json").write_text(json.dumps(metrics))
    run = {"config": config, "data": {}} | ({"active": active} if active else {})
    (place / "run.json").write_text(json.dumps(run))
    (place / query_records.FILE).write_text(query_records.to_text(asked))


def rounds(repo, strategy, seed, scores, words_each, plan=PLAN):
    """The first round of a seed, 10 sentences of 5 words, and a round of 10 for each score."""
    first = f"active_iter_0_seed{seed}"
    tags = ("B-PER", "O", "O", "O", "O")
    asked = [Query(0, "random", None, "here:1", tuple(f"a{i}bcd"), tags) for i in range(10)]
    about = {"plan": plan, "seed": seed}
    size = {"sentences": 10, "words": 50, "entities": 10}
    if not (repo / first).exists():
        zero = {"round": 0, "strategy": None, "start": None} | size | about
        revision(repo, first, scores[0], active=zero, asked=asked)
    before = first
    for number, f1 in enumerate(scores[1:], start=1):
        tags = ("B-LOC", "I-LOC", *["O"] * (words_each - 2))
        words = ("w",) * words_each
        asked = asked + [Query(number, strategy, 0.5, "there:1", words, tags, cheap=i < 5)
                         for i in range(10)]  # fmt: skip
        asked.append(Query(number, strategy, 0.1, "there:2", ("skipped",), None))
        size = {k: v + n for (k, v), n in zip(size.items(), (10, 10 * words_each, 10), strict=True)}
        own = {"round": number, "strategy": strategy, "start": before} | size | about
        name = f"active_iter_{number}_{strategy}_seed{seed}"
        revision(repo, name, f1, active=own, asked=asked)
        before = name


@pytest.fixture
def repo(tmp_path):
    """Two seeds of two strategies: 10, 20 and 30 sentences; 50, 150, 250 words, or 50, 100, 150."""
    repo = tmp_path / "models"
    for seed, (default, random) in enumerate([([0.2, 0.6, 0.8], [0.2, 0.4, 0.5]),
                                              ([0.4, 0.6, 0.7], [0.4, 0.4, 0.5])]):  # fmt: skip
        rounds(repo, "default", seed, default, 10)
        rounds(repo, "random", seed, random, 5)
    revision(repo, "model_primary", 0.8, data="gold", expert=None)
    revision(repo, "another", 0.1, data="gold", expert="12%")
    revision(repo, "main", 0.3, data="llm")
    return repo


def read(store) -> list[curves.Curve]:
    """The curves of a store without a fault."""
    known, faults = curves.read_store(store)
    found = curves.read_curves(store, known, faults)
    assert not faults
    return found


def levels(store, full) -> dict[str, float]:
    return curves.reference_levels(store, curves.read_store(store)[0], full, "test")


def test_areas_and_leads_over_chance(repo):
    found = read(Store(str(repo)))
    header, default, _ = curves.area_table(found, "test")
    by_name = dict(zip(header, default, strict=True))
    # By sentences, of 20: ((.2 + .6) / 2 + (.6 + .8) / 2) / 2 = .55, and .575.
    assert by_name["area by sentences"] == "56.25 ± 1.77"
    # By words, as far as both go, 50 to 150: (.2 + .6) / 2 = .4, and (.4 + .6) / 2 = .5.
    assert by_name["area by words"] == "45.00 ± 7.07"
    # Random, by sentences: ((.2 + .4) / 2 + (.4 + .5) / 2) / 2 = .375, and .425: leads .175, .15.
    # By words, of 100: the same .375 and .425: leads of .025 and .075.
    _, lead = curves.lead_table(found, "test")
    assert lead == ["default", "random", "+16.25 ± 1.25", "+5.00 ± 2.50"]
    assert (by_name["F1 at the start"], by_name["at the end"]) == ("30.00 ± 14.14", "75.00 ± 7.07")


def test_what_is_needed_for_a_share_of_full_gold(repo):
    store = Store(str(repo))
    found = read(store)
    assert levels(store, ()) == {
        "all expert labels": 0.8,
        "weak labels alone": 0.3,
    }
    revision(store.folder, "published", 0.1)  # nothing says what it learnt from
    assert levels(store, ("published",))["all expert labels"] == 0.1
    for name in ("another", "main", found[0].points[1].name):
        with pytest.raises(InputError, match=f"--full {name}: did not learn from all"):
            levels(store, (name,))
    header, default, random = curves.share_table(found, 0.8, "test")
    # The mean curve of default goes .3, .6, .75: 90 % of .8 is at .72, 95 % at .76.
    row = dict(zip(header, default, strict=True))
    assert row["90%, sentences"] == "28" and row["90%, words"] == "230"
    assert row["95%, sentences"] == "not reached" and set(random[1:]) == {"not reached"}


def test_words_read_are_a_unit_where_experts_label_fewer(repo, tmp_path):
    before = read(Store(str(repo)))
    assert curves.units_of(before) == ("sentences", "words", "entities")
    for path in repo.glob("active_iter_*_default_*/run.json"):
        run = json.loads(path.read_text())
        run["active"] |= {"words_read": 2 * run["active"]["words"], "plan": PLAN | {"ask": "words"}}
        path.write_text(json.dumps(run))
    found = read(Store(str(repo)))
    assert [c.strategy for c in found] == 2 * ["default, ask words"] + 2 * ["random, ask sentences"]
    # The mean curve of default goes .3, .6, .75 at 50, 150, 250 words, of 50, 300, 500 read.
    header, default, _ = curves.share_table(found, 0.8, "test")
    row = dict(zip(header, default, strict=True))
    assert row["90%, words"] == "230" and row["90%, words read"] == "460"
    area = curves.area_table(found, "test")
    assert area[0][-2:] == ["area by words", "area by words read"]
    # The rounds that ask for whole sentences read 50 to 150 words, the others 50 to 500.
    assert curves.common_span(found, "words read") == (50, 150)
    curves.write_curves(tmp_path / "out", found, {}, "test", 0)
    with (tmp_path / "out/curves.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    found = {(row["words"], row["words read"]) for row in rows if row["strategy"][0] == "d"}
    assert found == {("50", "50"), ("150", "300"), ("250", "500")}


def test_what_was_picked_is_what_the_strategy_asked_for(repo):
    header, default, random = curves.query_table(read(Store(str(repo))))
    row = dict(zip(header, default, strict=True))
    assert (
        row["sentences"] == "40" and row["words each"] == "10.0"
    )  # not the first, nor the skipped
    assert row["with a weak label"] == "50%" and row["without entity"] == "0%"
    assert row["LOC"] == "100%" and row["entities each"] == "1.00" and "PER" not in row


def test_the_best_round_is_named_by_validation(repo):
    text = curves.summary(Store(str(repo)), 0.5)
    assert "best on validation, of all: active_iter_2_default_seed0 (40.00)" in text
    assert " 125.00 |" in text  # 250 words


def test_one_command_makes_everything_from_the_store(repo, tmp_path, capsys):
    out = tmp_path / "out"
    line = ["--repo", str(repo), "--output", str(out), "--price", "0.5"]
    command.main(line)
    said = capsys.readouterr().out
    assert "all expert labels: 80.00; labels needed to reach a share of it:" in said
    for name in ("curves", "picked"):
        assert (out / f"{name}.png").read_bytes().startswith(b"\x89PNG")
    assert len(list(out.glob("*.png"))) == 2
    with (out / "curves.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 2 * 2 * 3
    (row,) = (r for r in rows if r["revision"] == "active_iter_2_default_seed1")
    assert (row["sentences"], row["words"], row["cost"]) == ("30", "250", "125.0")
    assert (row["test_f1"], row["validation_f1"]) == ("0.7", "0.35")
    other = out / "another"
    other.touch()
    command.main(line)  # and again, over what is there
    assert other.exists()


def test_runs_of_other_plans_are_told_apart(repo):
    # bald: a strategy that is no longer there, as others in the records of earlier versions
    rounds(repo, "bald", 7, [0.1, 0.2], 5, plan=PLAN | {"data": "gold"})
    names = {curve.strategy for curve in read(Store(str(repo)))}
    assert names == {"default, data mixed", "random, data mixed", "bald, data gold"}


def test_curves_that_have_nothing_in_common_are_refused(repo, capsys):
    rounds(repo, "mnlp", 5, [0.1, 0.2], 5)
    first = repo / "active_iter_0_seed5/run.json"
    run = json.loads(first.read_text())
    run["active"]["words"] = 900
    first.write_text(json.dumps(run))
    last = repo / "active_iter_1_mnlp_seed5/run.json"
    run = json.loads(last.read_text())
    run["active"]["words"] = 950
    last.write_text(json.dumps(run))
    message = refused(command, capsys, "--repo", repo)
    assert "_random_seed0 ends at 150 words, before the rounds of " in message
    assert "active_iter_1_mnlp_seed5 begin, at 900" in message


def test_the_first_round_alone_is_no_curve(tmp_path, capsys):
    rounds(tmp_path, "mnlp", 5, [0.1], 5)
    assert "holds round 0 alone" in refused(command, capsys, "--repo", tmp_path)
    assert curves.summary(Store(str(tmp_path)), 0.0).endswith("holds round 0 alone")


def test_a_store_without_rounds_is_refused(tmp_path, capsys):
    revision(tmp_path, "main", 0.3, data="llm")
    message = refused(command, capsys, "--repo", tmp_path)
    assert "holds no round of active learning (there: main)" in message
    message = refused(command, capsys, "--repo", tmp_path / "nowhere")
    assert "holds no round of active learning (there: no such folder)" in message


def test_damaged_rounds_do_not_hide_the_others(repo, capsys):
    (repo / "main/run.json").write_text("{")
    (repo / "active_iter_2_random_seed0/metrics.json").write_text('{"test": {"f1": "high"}}')
    (repo / "active_iter_2_random_seed1/queries.jsonl").write_text("{}")
    with pytest.raises(SystemExit) as stop:
        command.main(["--repo", str(repo)])
    out, err = capsys.readouterr()
    assert stop.value.code == 2 and err.count("\n") == 1
    for name in ("active_iter_2_default_seed0", "active_iter_1_random_seed0", "all expert labels"):
        assert name in out
    assert "active_iter_2_random_seed0" not in out and "weak labels alone" not in out
    assert "active_iter_1_random_seed1" not in out
    for fault in (
        "main/run.json: is damaged",
        'active_iter_2_random_seed0/metrics.json: is damaged: test.f1 is "high"',
        "active_iter_2_random_seed1/queries.jsonl",
    ):
        assert fault in err
    (repo / "active_iter_1_random_seed0/run.json").write_text("[]")
    (repo / "active_iter_0_seed0/run.json").write_text("[]")
    for path in repo.glob("active_iter_*/run.json"):
        path.write_text("[]")
    assert "active_iter_0_seed0/run.json: is damaged" in refused(command, capsys, "--repo", repo)
