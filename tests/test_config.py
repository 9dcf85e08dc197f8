"""The command line: what it takes, and the one line that it answers otherwise."""

import math
import sys
from dataclasses import fields
from pathlib import Path

import pytest

import active_learn
import train as train_script
from evaluate import EvaluateConfig
from nerc import errors
from nerc.active_learning.config import ActiveConfig
from nerc.cli import Effect, LogConfig, flags_with, parse
from nerc.config import Amount, DataConfig, ModelConfig, StoreConfig, TrainConfig, Unit
from nerc.errors import InputError, Interrupted

TRAIN = (DataConfig, ModelConfig, TrainConfig, StoreConfig)


def train(line: str):
    return parse(line.split(), "train.py", "about", *TRAIN)


def refused(line: str, capsys, configs=TRAIN) -> str:
    with pytest.raises(SystemExit) as stop:
        parse(line.split(), "train.py", "about", *configs)
    out, err = capsys.readouterr()
    assert stop.value.code == 2 and out == "" and err.count("\n") == 1
    assert err.startswith("train.py: error: ")
    return err


def test_hyphens_and_underscores_are_one():
    for line in ("--batch-size 8 --head_lr=0.1", "--batch_size=8 --head-lr 0.1"):
        _, _, settings, _ = train(line)
        assert (settings.batch_size, settings.head_lr) == (8, 0.1)


def test_values_keep_their_underscores():
    _, network, _, store = train("--encoder a_b --revision=my_model_2 --overwrite")
    assert (network.encoder, store.revision, store.overwrite) == ("a_b", "my_model_2", True)


def test_strong_is_the_default_recipe_of_every_script():
    assert TrainConfig in train_script.CONFIGS and TrainConfig in active_learn.CONFIGS
    assert TrainConfig().recipe == "strong"


def test_paper_is_the_published_recipe_to_the_letter():
    data, network, config, store = train("--recipe paper")
    assert (data.data, data.corpus, store.repo) == ("gold", "conll2003", "models")
    config = config.resolved(hidden_size=768, num_layers=12)
    assert (config.optimizer, config.lr, config.momentum) == ("sgd", 1e-3, 0.9)
    assert (config.batch_size, config.epochs, config.schedule) == (32, 5, "constant")


def test_strong_scales_the_encoders_rate_and_yields_to_flags():
    _, _, config, _ = train("--recipe strong --epochs 7")
    assert config.resolved(hidden_size=768, num_layers=12).lr == pytest.approx(5e-5)
    assert config.resolved(hidden_size=384, num_layers=6).lr == pytest.approx(2e-4)
    assert config.resolved(hidden_size=128, num_layers=2).lr == 1e-3  # the head's, no more
    assert config.resolved(hidden_size=384, num_layers=6).epochs == 7
    _, _, config, _ = train("--recipe strong --lr 0.5")
    assert config.resolved(hidden_size=384, num_layers=6).lr == 0.5


@pytest.mark.parametrize(
    "theirs, ours",
    [
        ("--learning_rate 1e-5", "--lr"),
        ("--output_dir=out", "--repo and --revision"),
        ("--model_name_or_path bert-base-cased", "--encoder"),
        ("--num_train_epochs 3", "--epochs"),
        ("--per_device_train_batch_size 8", "--batch-size, of all processes together"),
        ("--max_seq_length 128", "none: longer sentences are read in overlapping windows"),
    ],
)
def test_a_flag_of_transformers_scripts_is_answered_with_ours(theirs, ours, capsys):
    assert f"; nerc's flag is {ours}; see" in refused(theirs, capsys)


def test_a_flag_that_a_command_does_not_have_is_not_advised(capsys):
    assert "nerc's flag" not in refused("--learning_rate 1e-5", capsys, (EvaluateConfig,))
    assert "nerc's flag" not in refused("--nonsense 1", capsys)


def test_every_flag_says_what_it_changes():
    configs = (DataConfig, ModelConfig, TrainConfig, StoreConfig, LogConfig)
    assert flags_with({Effect.SEED}, *configs) == {"seed"}
    assert flags_with({Effect.MACHINE}, *configs) == {"precision"}
    assert flags_with({Effect.PLACE}, *configs) == {"corpus", "columns", "encoder", "tokenizer"}
    unchanging = {"micro_batch_words", "num_threads", "quiet"}
    assert flags_with({Effect.NONE}, *configs) == unchanging | {f.name for f in fields(StoreConfig)}


def test_a_repeated_flag_adds_names():
    (config,) = parse("--revision a --revision b c".split(), "x", "", EvaluateConfig)
    assert config.revision == ("a", "b", "c")


@pytest.mark.parametrize(
    "text, number, unit, of_1000",
    [
        ("12%", 0.12, Unit.SHARE, 120),
        ("0.5%", 0.005, Unit.SHARE, 5),
        ("0.01%", 0.0001, Unit.SHARE, 1),  # never none
        ("240", 240, Unit.SENTENCES, 240),
    ],
)
def test_amounts(text, number, unit, of_1000):
    amount = Amount.parse(text, "expert")
    assert amount == Amount(pytest.approx(number), unit)
    assert type(amount.number) is type(number) and amount.num_sentences(1000) == of_1000


def test_only_some_flags_take_amounts_of_words():
    amount = Amount.parse("500w", "add", words=True)
    assert amount == Amount(500, Unit.WORDS)
    with pytest.raises(InputError, match="--expert must be a percentage"):
        Amount.parse("500w", "expert")
    for text in ("0w", "5x", "1.5w", "w", "5%w"):
        with pytest.raises(InputError, match="--add must be .* or words"):
            Amount.parse(text, "add", words=True)


NO_AMOUNTS = ["0", "0%", "101%", "-3", "1.5", "x", "", "12 %", "٣", "١٢%", "nan%", "nan", "inf"]
NO_AMOUNTS += ["inf%", "1e999%", "1e3", "1e1%", "0x5", "1_0", "+5", "5\n", "9" * 16, "٫5%"]


@pytest.mark.parametrize("text", NO_AMOUNTS)
def test_amounts_that_are_none(text):
    with pytest.raises(InputError, match="--expert must be a percentage"):
        Amount.parse(text, "expert")


@pytest.mark.parametrize(
    "line, message",
    [
        ("--epoch 3", "unrecognized arguments: --epoch 3"),
        ("--colour red", "unrecognized arguments"),
        ("stray", "unrecognized arguments: stray"),
        ("--data silver", "invalid choice: 'silver'"),
        ("--batch-size 0", "--batch-size must be 1 or more, not 0"),
        ("--batch-size many", "invalid int value: 'many'"),
        ("--epochs -1", "--epochs must be 1 or more"),
        ("--lr 0", "--lr must be above 0"),
        ("--lr nan", "--lr must be above 0"),
        ("--head-lr inf", "--head-lr must be above 0"),
        ("--momentum 1", "--momentum must be at least 0 and below 1"),
        ("--dropout 1", "--dropout must be at least 0 and below 1"),
        ("--warmup 1.1", "--warmup must be between 0 and 1"),
        ("--layer-decay 0", "--layer-decay must be above 0 and at most 1"),
        ("--clip -1", "--clip must be 0 or more"),
        ("--weight-decay -1", "--weight-decay must be 0 or more"),
        ("--seed -1", "--seed must be at least 0"),
        ("--lstm-hidden-size -1", "--lstm-hidden-size must be 0 to 65536"),
        ("--num-threads -1", "--num-threads must be 0 to 1024"),
        ("--num-threads 100000", "--num-threads must be 0 to 1024"),
        ("--revision=", "--revision is empty"),
        ("--corpus=", "--corpus is empty"),
        ("--data mixed --expert 0", "--expert must be a percentage"),
        ("--data llm --expert 3", "--expert must be left out with --data llm"),
        ("--start main --encoder tiny", "--encoder must be left out with --start"),
        ("--start main --lstm-hidden-size 1", "--lstm-hidden-size must be left out with --start"),
    ],
)
def test_bad_flags_get_one_line(line, message, capsys):
    assert message in refused(line, capsys)


def test_no_folder_or_revision_is_hidden_by_a_name_with_a_meaning(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert ModelConfig(encoder="tiny").encoder == "tiny"
    for path in ("tiny/config.json", "gold/round_1.jsonl"):
        Path(path).parent.mkdir()
        assert ActiveConfig().oracle == "gold"
        Path(path).touch()
    message = refused("--encoder tiny", capsys)
    assert "--encoder must be ./tiny for the folder here; to use nerc's own tiny" in message
    assert ModelConfig(encoder="./tiny").encoder == "./tiny"
    assert "--oracle must be ./gold for the folder here" in refused("", capsys, [ActiveConfig])
    assert ActiveConfig(oracle="./gold").people
    message = refused("--revision none", capsys)
    assert "--revision must be another name: for --start, none is no revision" in message


@pytest.mark.parametrize(
    "line, message",
    [
        ("--revision", "expected at least one argument"),
        ("--revision a a", "--revision must be different names, not 'a a'"),
        ("--revision a --revision a", "--revision must be different names"),
        ("--revision a --split train", "invalid choice: 'train'"),
        ("--revision a --batch-size 0", "--batch-size must be 1 or more"),
    ],
)
def test_bad_flags_of_evaluate_get_one_line(line, message, capsys):
    assert message in refused(line, capsys, [EvaluateConfig])


def test_a_flag_that_the_optimiser_does_not_have_is_refused():
    config = TrainConfig(recipe="strong", momentum=0.9)
    with pytest.raises(InputError, match="--momentum must be left out with --optimizer adamw"):
        config.resolved(hidden_size=768, num_layers=12)


def test_only_the_main_process_speaks(capsys, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "4")
    monkeypatch.setenv("RANK", "1")
    with pytest.raises(SystemExit) as stop:
        train("--colour red")
    assert stop.value.code == 2 and capsys.readouterr().err == ""


@pytest.mark.parametrize("rank, start", [("0", "train.py: error: no"), ("3", "process 3: no")])
def test_what_is_wrong_in_one_process_alone_is_said_by_it(capsys, monkeypatch, rank, start):
    monkeypatch.setenv("WORLD_SIZE", "4")
    monkeypatch.setenv("RANK", rank)
    monkeypatch.setattr(errors, "_WAIT_FOR_MAIN", 0.01)
    with pytest.raises(SystemExit) as stop, errors.one_line_errors("train.py"):
        raise InputError("no")
    err = capsys.readouterr().err
    assert stop.value.code == 2 and start in err and err.count("\n") == 1


@pytest.mark.parametrize(
    "text, interval",
    [
        ("500", (500, math.inf)),
        ("30s", (sys.maxsize, 30.0)),
        ("15m", (sys.maxsize, 900.0)),
        ("2h", (sys.maxsize, 7200.0)),
        ("never", (sys.maxsize, math.inf)),
    ],
)
def test_checkpoints_come_by_updates_or_by_time(text, interval):
    assert StoreConfig(checkpoint_every=text).interval == interval


@pytest.mark.parametrize("error", [KeyboardInterrupt(), Interrupted(2), Interrupted(15)])
def test_an_interrupted_run_says_so_in_one_line(capsys, error):
    with pytest.raises(SystemExit) as stop, errors.one_line_errors("train.py"):
        raise error
    err = capsys.readouterr().err
    assert stop.value.code == (143 if error.args == (15,) else 130)
    assert err.startswith("train.py: interrupted by SIG") and err.count("\n") == 1


def test_help_names_every_flag_with_both_recipes_values(capsys):
    with pytest.raises(SystemExit):
        train("--help")
    text = " ".join(capsys.readouterr().out.split())
    assert "(paper sgd, strong adamw)" in text and "1,685 sentences" in text
    for flag in ("--data", "--encoder", "--head-lr", "--overwrite", "--num-threads"):
        assert flag in text
