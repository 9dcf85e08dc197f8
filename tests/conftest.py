"""Toys that the tests share: a corpus in CoNLL files, a random encoder, a trained revision."""

import logging
import os

# No test may wait for a Hub; those that need one start their own. Set before the libraries load.
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

# Each worker of pytest-xdist, and all that it starts, gets one core: threads of several workers on
# the same cores wait for each other.
if (worker := os.environ.get("PYTEST_XDIST_WORKER")) and hasattr(os, "sched_setaffinity"):
    cores = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, {cores[int(worker.removeprefix("gw")) % len(cores)]})

import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from safetensors.torch import load_file

from nerc.data import synthetic
from nerc.data.sources import FILES

pytest.register_assert_rewrite("hub_server")  # else python -O drops its assertions

SHARED = Path(__file__).parents[2] / "shared"


def pytest_addoption(parser):
    parser.addoption("--slow", action="store_true", help="run the tests marked slow, too")


# Files that start many processes, the longest first: a file that starts late keeps one worker of
# pytest-xdist busy while the other has nothing left to do.
LONGEST = "distributed hub active_learning environment combine slurm scripts predict".split()


def pytest_configure(config):
    config.option.loadscopereorder = False  # pytest-xdist would start the longest files last


def pytest_collection_modifyitems(config, items):
    places = {f"test_{name}": place for place, name in enumerate(LONGEST)}
    items.sort(key=lambda item: places.get(item.path.stem, len(places)))
    if not config.getoption("--slow"):
        for item in items:
            if item.get_closest_marker("slow"):
                item.add_marker(pytest.mark.skip(reason="slow: run with --slow"))


@pytest.fixture(scope="session")
def conll2003() -> Path:
    """The folder of the real CoNLL-2003, where it is at hand."""
    folder = SHARED / "conll2003"
    if not folder.is_dir():
        pytest.skip(f"CoNLL-2003 is not at {folder}")
    return folder


@pytest.fixture(scope="session")
def minilm() -> Path:
    """The folder of a real pretrained encoder, where it is at hand."""
    folder = SHARED / "encoders" / "minilm-l6-h384"
    if not folder.is_dir():
        pytest.skip(f"no encoder at {folder}")
    return folder


def write_conll(path: Path, sentences) -> None:
    """Sentences of (words, tags, document) as a CoNLL file."""
    lines, last = [], None
    for words, tags, document in sentences:
        if document != last:
            lines += ["-DOCSTART- O", ""]
            last = document
        lines += [f"{word} {tag}" for word, tag in zip(words, tags, strict=True)] + [""]
    path.write_text("\n".join(lines), encoding="utf-8")


@pytest.fixture(scope="session")
def folder(tmp_path_factory) -> Path:
    """A small corpus folder with all four files."""
    folder = tmp_path_factory.mktemp("corpus")
    for split, size in {"train": 70, "validation": 23, "test": 19, "llm": 70}.items():
        write_conll(folder / FILES[split], synthetic.generate(split, size))
    return folder


@pytest.fixture(scope="session")
def encoder(tmp_path_factory) -> Path:
    """A small random BERT with a tokenizer, saved as transformers saves them."""
    from transformers import BertConfig, BertModel, set_seed

    from nerc.data import sources
    from nerc.model.tokenizer import learn_tokenizer

    folder = tmp_path_factory.mktemp("encoder")
    tokenizer = learn_tokenizer(sources.load("sample:100", "train"), 600)
    set_seed(0)
    config = BertConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=64,
        max_position_embeddings=64,
    )
    BertModel(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def tokenizer(encoder):
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(encoder)


@pytest.fixture
def model(encoder):
    """A NERSmall with BiLSTM on the random encoder, in evaluation mode, the same in every test."""
    from transformers import set_seed

    from nerc.data.tags import CONLL_TYPES, inventory
    from nerc.model.loading import from_encoder

    set_seed(0)
    inventory = inventory(CONLL_TYPES)
    return from_encoder(str(encoder), inventory, lstm_hidden_size=16, dropout=0.0).eval()


@pytest.fixture(scope="session")
def store(folder, encoder, tmp_path_factory) -> Path:
    """A store with the revision model_primary, trained by train.py."""
    import train

    repo = tmp_path_factory.mktemp("store") / "models"
    train.main([*small(folder, encoder), "--repo", str(repo)])
    return repo


@pytest.fixture(scope="session")
def taught(folder, encoder, tmp_path_factory) -> Path:
    """A store whose revision model_primary has learnt to find some entities."""
    import train

    repo = tmp_path_factory.mktemp("taught") / "models"
    flags = [*small(folder, encoder), "--epochs", "40"]
    train.main([*flags, "--repo", str(repo)])
    return repo


@pytest.fixture(scope="session")
def killed(folder, encoder, tmp_path_factory) -> Path:
    """A store with the checkpoints of the run of the fixture store, killed after a few updates."""
    repo = tmp_path_factory.mktemp("killed") / "models"
    flags = [*small(folder, encoder), "--repo", str(repo), "--checkpoint-every", "1"]
    run = subprocess.Popen(
        [sys.executable, "train.py", *flags],
        cwd=Path(__file__).parents[1],
        start_new_session=True,
        stdout=subprocess.DEVNULL,
    )
    while len(list(repo.glob(".checkpoints/model_primary/update_*"))) < 2:
        assert run.poll() is None, "it ended before it could be killed"
        time.sleep(0.002)
    os.killpg(run.pid, signal.SIGKILL)
    run.wait()
    return repo


# 103 sentences: neither 2 nor 3 divide them, nor the 7 of each epoch's last update.
SAMPLE = "--corpus sample:103 --recipe strong --batch-size 16 --num-threads 1 --precision float32"
TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node"]


@pytest.fixture(scope="session")
def by_two(tmp_path_factory) -> Path:
    """A store with the revision of a run of two processes, SAMPLE and 8 epochs of 7 updates."""
    repo = tmp_path_factory.mktemp("by_two")
    command = [*TORCHRUN, "2", "train.py", *SAMPLE.split(), "--epochs", "8", "--repo", str(repo)]
    root = Path(__file__).parents[1]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return repo


@contextmanager
def logged() -> Iterator[list[str]]:
    """The messages that nerc logs meanwhile."""
    messages: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: messages.append(record.getMessage())
    logger = logging.getLogger("nerc")
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    try:
        yield messages
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)


def same_weights(one: Path, two: Path) -> bool:
    """Whether the revision model_primary is the same, bit for bit, in two stores."""
    a, b = (load_file(repo / "model_primary/model.safetensors") for repo in (one, two))
    return a.keys() == b.keys() and all(a[name].equal(b[name]) for name in a)


def small(folder: Path, encoder: Path) -> list[str]:
    """Flags of a run that takes a second or two."""
    flags = f"--corpus {folder} --encoder {encoder} --lstm-hidden-size 16 --batch-size 8 --epochs 2"
    flags += " --recipe strong --lr 1e-3 --head-lr 1e-2 --num-threads 1 --precision float32"
    return flags.split()


def same_files(one: Path, two: Path) -> bool:
    """Whether two folders hold the same files, byte for byte."""
    return files(one) == files(two) and all(
        (one / name).read_bytes() == (two / name).read_bytes() for name in files(one)
    )


def files(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def refused(script, capsys, *flags) -> str:
    with pytest.raises(SystemExit) as stop:
        script.main([str(flag) for flag in flags])
    out, err = capsys.readouterr()
    assert stop.value.code == 2
    assert err.startswith(script.PROGRAM) and ": error: " in err and err.count("\n") == 1, err
    assert "Traceback" not in out + err
    return err


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 8 MiB, where this user may mount one."""
    place = tmp_path / "disk"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", str(place)]
    try:
        done = subprocess.run(mount, capture_output=True, text=True)
    except FileNotFoundError:
        pytest.skip("there is no mount command")
    if done.returncode:
        pytest.skip(f"no file system may be mounted here: {done.stderr.strip()}")
    yield place
    subprocess.run(["umount", str(place)], check=True)


@pytest.fixture(scope="session")
def chromium():
    """A browser without a network but for this machine, whose console is kept."""
    webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is not installed")
    missing = [name for name in ("chromium", "chromedriver") if not shutil.which(name)]
    if missing:
        pytest.skip(f"no browser is installed: no {', '.join(missing)}")
    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which("chromium")
    for flag in ("headless=new", "no-sandbox", "disable-gpu", "disable-dev-shm-usage"):
        options.add_argument(f"--{flag}")
    options.add_argument("--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1")
    options.add_argument("--window-size=1300,900")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    service = webdriver.ChromeService(executable_path=shutil.which("chromedriver"))
    driver = webdriver.Chrome(options=options, service=service)
    yield driver
    driver.quit()
