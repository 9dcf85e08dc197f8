"""Damage the files that commands read, run the commands, and count how they end.

python benchmarks/damage.py                    about 2,600 damaged inputs on two cores: half an hour
python benchmarks/damage.py --runs 100 --only predict
python benchmarks/damage.py --seed 0 --keep DIR    keep each run that ended badly in DIR

A run is right if it ends as without the damage, if it shows what the file now says (a report with
another figure is another report), or if it ends with one line and exit code 2. A traceback, a hang,
another exit code, and a result that differs where no file may differ in silence are faults. The
exit code says whether there were none. Without a network; the Hub is tests/hub_server.py. --record
FILE keeps the counts.
"""

import argparse
import hashlib
import json
import os
import random
import resource
import runpy
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import records  # first: it finds nerc, which need not be installed
import tables
from records import OUTCOMES, ROOT

sys.path.insert(0, str(ROOT / "tests"))

import hub_server  # noqa: E402

MOST_SECONDS = 90
MOST_MEMORY = 12 * 2**30  # of addresses: a run that reads without end must not take the machine
FLAGS = "--encoder tiny --batch-size 16 --num-threads 1 --precision float32".split()
MODEL = ("config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json")
RECORDS = ("run.json", "metrics.json")


@dataclass(frozen=True)
class Command:
    """A command, and the files that are damaged before it runs, as patterns in the world."""

    name: str
    arguments: str
    folders: tuple[str, ...]  # of the world that it reads and writes
    targets: tuple[str, ...]
    says: tuple[str, ...] = ()  # ends of the names of files whose content the result shows
    writes: tuple[str, ...] = ()  # patterns of the files that are its result, beside the output


COMMANDS = (
    Command(
        "predict",
        "-m nerc predict --repo models --input text.txt --num-threads 1",
        ("models", "text.txt"),
        tuple(f"models/model_primary/{file}" for file in MODEL + RECORDS) + ("text.txt",),
        ("text.txt",),
    ),
    Command(
        "predict, JSON",
        "-m nerc predict --repo models --input text.jsonl --format json --num-threads 1",
        ("models", "text.jsonl"),
        ("text.jsonl",),
        ("text.jsonl",),
    ),
    Command(
        "predict, CoNLL",
        "-m nerc predict --repo models --input corpus/test.txt --format conll --num-threads 1",
        ("models", "corpus"),
        ("corpus/test.txt",),
        ("test.txt",),
    ),
    Command(
        "evaluate",
        "evaluate.py --repo models --revision model_primary main --num-threads 1 --json out.json",
        ("models", "corpus"),
        tuple(f"models/model_primary/{file}" for file in MODEL + RECORDS) + ("corpus/valid.txt",),
        ("valid.txt", "run.json"),
        ("out.json",),
    ),
    Command(
        "results",
        "-m nerc results --repo models",
        ("models",),
        ("models/main/run.json", "models/main/metrics.json", "models/main/config.json"),
        RECORDS,
    ),
    Command(
        "revisions list",
        "-m nerc revisions list --repo models",
        ("models",),
        ("models/main/run.json", "models/main/metrics.json", "models/main/config.json"),
        RECORDS,
    ),
    Command(
        "curves",
        "-m nerc curves --repo rounds",
        ("rounds",),
        ("rounds/active_iter_1*/run.json", "rounds/active_iter_1*/metrics.json")
        + ("rounds/active_iter_1*/queries.jsonl",),
        (*RECORDS, "queries.jsonl"),
    ),
    Command(
        "audit",
        "-m nerc audit --corpus corpus",
        ("corpus",),
        ("corpus/train.txt", "corpus/llm.txt"),
        (".txt",),
    ),
    Command(
        "train",
        "train.py --data gold --corpus corpus --repo new --epochs 1 " + " ".join(FLAGS),
        ("corpus",),
        ("corpus/train.txt", "corpus/valid.txt", "corpus/test.txt"),
        (".txt",),
        ("new/*/model.safetensors",),
    ),
    Command(
        "train, weak labels",
        "train.py --data llm --corpus corpus --repo new --epochs 1 " + " ".join(FLAGS),
        ("corpus",),
        ("corpus/llm.txt",),
        (".txt",),
        ("new/*/model.safetensors",),
    ),
    Command(
        "train --start",
        "train.py --data gold --corpus corpus --repo models --revision new --epochs 1 "
        "--start model_primary --batch-size 16 --num-threads 1 --precision float32",
        ("corpus", "models"),
        tuple(f"models/model_primary/{file}" for file in MODEL + RECORDS),
        (),
        ("models/new/model.safetensors",),
    ),
    Command(
        "train --resume",
        "train.py --data gold --corpus corpus --repo killed --epochs 6 --checkpoint-every 2 "
        "--resume " + " ".join(FLAGS),
        ("corpus", "killed"),
        ("killed/.checkpoints/*/update_*", "killed/.checkpoints/*/run.json")
        + ("killed/.checkpoints/*/logs/events*", "killed/.checkpoints/*/status.json"),
        (),
        ("killed/*/model.safetensors",),
    ),
    Command(
        "active_learn --resume",
        "active_learn.py --corpus corpus --repo rounds --rounds 2 --add 5 --epochs 1 --resume "
        "--data gold " + " ".join(FLAGS),
        ("corpus", "rounds"),
        ("rounds/active_iter_1*/queries.jsonl", "rounds/active_iter_0*/run.json")
        + ("rounds/active_iter_1*/metrics.json", "rounds/active_iter_1*/model.safetensors"),
        (),
        ("rounds/*/queries.jsonl", "rounds/*/model.safetensors"),
    ),
    Command(
        "active_learn, people",
        "active_learn.py --corpus people --oracle labels --repo asked --rounds 1 --add 5 "
        "--epochs 1 --resume --data gold " + " ".join(FLAGS),
        ("people", "labels", "asked"),
        ("labels/round_1.answers.jsonl", "labels/round_1.jsonl")
        + ("asked/.checkpoints/active*/round_1.json", "asked/active_iter_0*/queries.jsonl"),
        ("answers.jsonl",),
        ("asked/*/queries.jsonl", "asked/*/model.safetensors"),
    ),
    Command(
        "revisions pull",
        "-m nerc revisions pull --hub tester/models --repo pulled",
        (),
        ("the Hub's replies",),
        (),
        ("pulled/*/*",),
    ),
)


# ------------------------------------------------------------ the undamaged world


def build(world: Path) -> None:
    """Make the corpora, texts, revisions, an interrupted run and rounds that commands read."""
    # Not above: a worker must set the Hub's address before the Hub's client is imported.
    from nerc.data import synthetic
    from nerc.data.sources import FILES

    for corpus in ("corpus", "people"):
        (world / corpus).mkdir(parents=True)
        for split, size in {"train": 60, "validation": 20, "test": 20, "llm": 60}.items():
            lines, last = [], None
            for words, tags, document in synthetic.generate(split, size):
                lines += ["-DOCSTART- O", ""] if document != last else []
                lines += [f"{word} {tag}" for word, tag in zip(words, tags, strict=True)] + [""]
                last = document
            (world / corpus / FILES[split]).write_text("\n".join(lines), encoding="utf-8")
    texts = [" ".join(words) for words, *_ in synthetic.generate("test", 12)]
    (world / "text.txt").write_text("\n".join(texts) + "\n", encoding="utf-8")
    rows = [json.dumps({"id": i, "text": text}) for i, text in enumerate(texts)]
    (world / "text.jsonl").write_text("\n".join(rows) + "\n", encoding="utf-8")
    for flags in ("--data gold", "--data llm"):
        run_whole(world, f"train.py {flags} --corpus corpus --repo models --epochs 2", *FLAGS)
    rounds = "--rounds 1 --add 5 --epochs 1 --data gold"
    run_whole(world, f"active_learn.py --corpus corpus --repo rounds {rounds}", *FLAGS)
    people = f"active_learn.py --corpus people --oracle labels --repo asked {rounds}"
    (world / "people" / FILES["unlabelled"]).write_text(
        (world / "people" / FILES["train"]).read_text(encoding="utf-8"), encoding="utf-8"
    )
    (world / "people" / FILES["train"]).unlink()
    run_whole(world, people, *FLAGS)
    answer(world, 0)
    run_whole(world, people, *FLAGS, "--resume")
    answer(world, 1)
    kill_in_training(world)


def run_whole(world: Path, command: str, *flags: str) -> None:
    """Run a command of the undamaged world; it must succeed."""
    script, *rest = command.split()
    subprocess.run([sys.executable, ROOT / script, *rest, *flags, "--quiet"], cwd=world, check=True)


def answer(world: Path, number: int) -> None:
    """Accept every entity that a round proposes."""
    path = world / "labels" / f"round_{number}.jsonl"
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    text = "".join(json.dumps(row | {"answer": "accept"}) + "\n" for row in rows)
    path.with_name(f"round_{number}.answers.jsonl").write_text(text, encoding="utf-8")


def kill_in_training(world: Path) -> None:
    """Leave a run that was killed between its checkpoints."""
    script, *flags = next(c for c in COMMANDS if c.name == "train --resume").arguments.split()
    with subprocess.Popen([sys.executable, ROOT / script, *flags, "--quiet"], cwd=world) as run:
        while len([*(world / "killed").rglob("update_*.safetensors")]) < 2:
            if run.poll() is not None:
                raise SystemExit("the run to kill ended before it had two checkpoints")
            time.sleep(0.01)
        run.kill()


# ------------------------------------------------------------ damage

Damage = Callable[[bytes, random.Random], bytes]
ODD = [None, True, -1, 0, 1, 0.5, 2**63, 1e308, "", "x", "O", "../x", "\x1b[31m", [], [[]], {}]
ODD += [float("nan"), float("inf"), "é" * 300, {"a": {}}, list(range(50)), "NaN", "\ud800"]


def truncate(content: bytes, draw: random.Random) -> bytes:
    return content[: draw.randrange(len(content) or 1)]


def flip(content: bytes, draw: random.Random) -> bytes:
    changed = bytearray(content)
    for _ in range(draw.choice((1, 1, 2, 20)) if content else 0):
        changed[draw.randrange(len(changed))] ^= 1 << draw.randrange(8)
    return bytes(changed)


def overwrite(content: bytes, draw: random.Random) -> bytes:
    place, size = draw.randrange(len(content) or 1), draw.choice((1, 10, 1000))
    filler = draw.choice((b"\0", b"\xff", b"\n", b" ", b"0", b"\xf0\x9f"))
    return content[:place] + (filler * size)[:size] + content[place + size :]


def repeat(content: bytes, draw: random.Random) -> bytes:
    place, size = draw.randrange(len(content) or 1), draw.choice((1, 10, 1000))
    return content[: place + size] + content[place:]


def cut_out(content: bytes, draw: random.Random) -> bytes:
    place = draw.randrange(len(content) or 1)
    return content[:place] + content[place + draw.choice((1, 10, 1000)) :]


def replace_whole(content: bytes, draw: random.Random) -> bytes:
    page = b"<!DOCTYPE html><html><body>Sign in to the network</body></html>"
    pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n"
    odd = (b"", page, pointer, b"null", b"[]", b"{}", b"1", b"\0" * 100, b"[" * 10**5)
    return draw.choice(
        (*odd, content.decode("latin-1").encode("utf-16"), b"\xef\xbb\xbf" + content)
    )


ANY: tuple[Damage, ...] = (truncate, flip, overwrite, repeat, cut_out, replace_whole)


def change_json(content: bytes, draw: random.Random) -> bytes:
    """Change a field somewhere: its value, its name, or whether it is there."""
    whole = json.loads(content)
    places: list[tuple] = []

    def collect(value) -> None:
        members = value.items() if isinstance(value, dict) else enumerate(value)
        for key, member in list(members)[:200]:
            places.append((value, key))
            if isinstance(member, dict | list):
                collect(member)

    if isinstance(whole, dict | list):
        collect(whole)
    if places:
        parent, key = draw.choice(places)
        how = draw.choice(("odd", "odd", "odd", "like", "remove", "rename"))
        if how == "odd":
            parent[key] = draw.choice(ODD)
        elif how == "like" and isinstance(parent[key], int | float):
            parent[key] = draw.choice((-parent[key], parent[key] + 1, parent[key] * 10**9))
        elif how == "like":
            parent[key] = parent[draw.choice([*parent] if isinstance(parent, dict) else [0])]
        elif how == "rename" and isinstance(parent, dict):
            parent[f"{key}x"] = parent.pop(key)
        else:
            del parent[key]
    return json.dumps(whole).encode()


def change_json_line(content: bytes, draw: random.Random) -> bytes:
    lines = content.splitlines(keepends=True)
    place = draw.randrange(len(lines))
    lines[place] = change_json(lines[place], draw) + b"\n"
    return b"".join(lines)


def change_lines(content: bytes, draw: random.Random) -> bytes:
    """Remove, repeat, swap or dress a line in another way."""
    lines = content.splitlines(keepends=True)
    place, other = draw.randrange(len(lines)), draw.randrange(len(lines))
    how = draw.choice(("remove", "repeat", "swap", "carriage", "tabs", "comment", "columns"))
    if how == "remove":
        del lines[place]
    elif how == "repeat":
        lines.insert(other, lines[place])
    elif how == "swap":
        lines[place], lines[other] = lines[other], lines[place]
    elif how == "carriage":
        return content.replace(b"\n", draw.choice((b"\r\n", b"\r")))
    elif how == "tabs":
        return content.replace(b" ", b"\t")
    elif how == "comment":
        lines.insert(place, b"# text = x\n")
    else:
        lines[place] = draw.choice((b"x\n", b"x y z B-PER\n", b"x B-\n", b"x PER\n", b"B-PER\n"))
    return b"".join(lines)


def change_header(content: bytes, draw: random.Random) -> bytes:
    """Change the JSON header of a safetensors file, whose length stays right."""
    size = int.from_bytes(content[:8], "little")
    header = change_json(content[8 : 8 + size], draw)
    return len(header).to_bytes(8, "little") + header + content[8 + size :]


def change_numbers(content: bytes, draw: random.Random) -> bytes:
    """Make weights infinite, NaN or zero."""
    size = 8 + int.from_bytes(content[:8], "little")
    place = size + 4 * draw.randrange((len(content) - size) // 4)
    odd = draw.choice((b"\0\0\xc0\x7f", b"\0\0\x80\x7f", b"\0\0\x80\xff", b"\0\0\0\0"))
    count = draw.choice((1, 64))
    return content[:place] + odd * count + content[place + 4 * count :]


def damages_for(name: str) -> tuple[Damage, ...]:
    if name.endswith(".jsonl"):
        return *ANY, *[change_json_line] * 5, change_lines
    if name.endswith(".json"):
        return *ANY, *[change_json] * 8
    if name.endswith(".safetensors"):
        return *ANY, *[change_header] * 3, *[change_numbers] * 3
    if name.endswith(".txt"):
        return *ANY, *[change_lines] * 6
    return ANY


def replace_path(path: Path, draw: random.Random, *, may_be_pipe: bool) -> str:
    """Put something that is no file, or nothing, in a file's place; says what."""
    path.unlink()
    kinds = ["nothing", "folder", "endless", "huge", "circle", "dangling"]
    kind = draw.choice(kinds if may_be_pipe else [*kinds, "pipe"])
    if kind == "folder":
        path.mkdir()
    elif kind == "pipe":
        os.mkfifo(path)
    elif kind == "endless":
        path.symlink_to("/dev/zero")
    elif kind == "huge":
        with path.open("wb") as file:
            file.truncate(2**42)
    elif kind == "circle":
        path.symlink_to(path.name)
    elif kind == "dangling":
        path.symlink_to("nowhere")
    return kind


def damage_file(path: Path, draw: random.Random, *, may_be_pipe: bool) -> str:
    """Damage a file; says how. may_be_pipe: a pipe is no damage, and would wait for its writer."""
    if draw.random() < 0.08:
        return replace_path(path, draw, may_be_pipe=may_be_pipe)
    damage, content = draw.choice(damages_for(path.name)), path.read_bytes()
    path.unlink()
    path.write_bytes(damage(content, draw))
    return damage.__name__


class DamagingHub(hub_server.Handler):
    """The Hub of the tests, which damages one of its answers."""

    draw: random.Random | None = None  # None: answer well
    skip = 0  # answers until the damaged one
    did = ""

    def answer(self, code: int, body=b"", **headers: str) -> None:
        handler = type(self)
        if handler.draw is not None and not handler.did and self.command != "HEAD":
            handler.skip -= 1
            if handler.skip < 0:
                content = body if isinstance(body, bytes) else json.dumps(body).encode()
                kinds = (*ANY, change_json) if not isinstance(body, bytes) else ANY
                damage = handler.draw.choice(kinds)
                handler.did = f"{damage.__name__} of {self.command} {self.path}"
                body = damage(content, handler.draw)
        super().answer(code, body, **headers)


# ------------------------------------------------------------ runs


def run_command(command: Command, folder: Path) -> tuple[int | None, str, str]:
    """Run a command in a fork of this process: exit code (None: it hangs), output, errors."""
    paths = [folder / ".out", folder / ".err"]
    child = os.fork()
    if child == 0:
        become(command, folder, paths)
    end = time.monotonic() + MOST_SECONDS
    while True:
        done, status = os.waitpid(child, os.WNOHANG)
        if done or time.monotonic() > end:
            break
        time.sleep(0.01)
    if not done:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    code = os.waitstatus_to_exitcode(status) if done else None
    return code, *(path.read_text(encoding="utf-8", errors="replace") for path in paths)


def become(command: Command, folder: Path, paths: Sequence[Path]) -> None:
    """Be the command, with its output in files; never returns."""
    os.setsid()
    os.chdir(folder)
    resource.setrlimit(resource.RLIMIT_AS, (MOST_MEMORY, MOST_MEMORY))
    os.environ["HF_HOME"] = str(folder / ".hf")
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    for number, path in enumerate(paths, start=1):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT), number)
    script, *sys.argv[1:] = command.arguments.split()
    code = 1
    try:
        if script == "-m":
            sys.argv[:] = sys.argv[:1] + sys.argv[2:]
            runpy.run_module("nerc", run_name="__main__")
        else:
            sys.argv[0] = script
            runpy.run_path(str(ROOT / script), run_name="__main__")
        code = 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def result_of(command: Command, folder: Path, output: str) -> tuple:
    """What a command gave: its output, or the files that it wrote."""
    if not command.writes:
        return (output,)
    written = sorted(path for pattern in command.writes for path in folder.glob(pattern))
    hashes = [hashlib.sha256(p.read_bytes()).hexdigest() for p in written if p.is_file()]
    return tuple(zip([str(p.relative_to(folder)) for p in written], hashes, strict=False))


def counts_differ(folder: Path, file: str) -> str:
    """Whether evaluate.py reports other sentences and words than a damaged file of labels holds.

    Counted here once more, in the simplest way: a line is a word, an empty line ends a sentence.
    """
    if not file.endswith("valid.txt") or not (folder / "out.json").exists():
        return ""
    lines = (folder / file).read_text(encoding="utf-8-sig").splitlines()
    lines = [line for line in lines if line != "# text = x"]  # a comment, by change_lines
    lines = ["" if line.startswith("-DOCSTART-") else line.strip() for line in lines]
    starts = [line and not before for before, line in zip(["", *lines], lines, strict=False)]
    wanted = sum(map(bool, starts)), sum(map(bool, lines))
    report = json.loads((folder / "out.json").read_text(encoding="utf-8"))["main"]["validation"]
    found = report["sentences"], report["words"]
    return "" if found == wanted else f"reports {found} sentences and words of {wanted}"


class Worker:
    """Runs every n-th damaged input, in a copy of the world."""

    def __init__(self, world: Path, keep: Path | None, handler: type) -> None:
        self.world, self.keep, self.handler = world, keep, handler
        self.right: dict[str, tuple] = {}  # the results without damage, by the names of commands

    def copy(self, command: Command, folder: Path) -> None:
        for name in command.folders:
            source = self.world / name
            copy = shutil.copytree if source.is_dir() else shutil.copy
            copy(source, folder / name)

    def run(self, command: Command, seed: str) -> dict:
        """One damaged run; a dict with its command, file, damage and outcome."""
        if command.name not in self.right:
            with tempfile.TemporaryDirectory() as place:
                self.copy(command, Path(place))
                code, output, errors = run_command(command, Path(place))
                if code != 0:
                    raise SystemExit(f"{command.name} fails without damage:\n{output}{errors}")
                self.right[command.name] = result_of(command, Path(place), output)
        draw = random.Random(seed)
        with tempfile.TemporaryDirectory() as place:
            folder = Path(place)
            self.copy(command, folder)
            pattern, file = draw.choice(command.targets), "the Hub's replies"
            if command.folders:
                path = draw.choice(sorted(folder.glob(pattern)))
                file = str(path.relative_to(folder))
                how = damage_file(path, draw, may_be_pipe=pattern in command.arguments)
            else:
                self.handler.draw, self.handler.skip = draw, draw.randrange(24)
                self.handler.did = ""
            code, output, errors = run_command(command, folder)
            if not command.folders:
                how, self.handler.draw = self.handler.did, None
            result = result_of(command, folder, output)
            outcome, why = self.judge(command, file, code, result, errors)
            if code == 0 and (difference := counts_differ(folder, file)):
                outcome, why = "wrong", difference
            if outcome == "wrong" and self.keep:
                self.keep_run(folder, seed, f"{command.name}: {file}: {how}: {why}\n{errors}")
        about = {"command": command.name, "file": pattern.rpartition("/")[2], "damage": how}
        return about | {"outcome": outcome, "why": why, "seed": seed}

    def judge(
        self, command: Command, file: str, code: int | None, result: tuple, errors: str
    ) -> tuple[str, str]:
        """The outcome of a run, and what is wrong with it."""
        if code is None:
            return "wrong", f"no end after {MOST_SECONDS} s"
        if "Traceback (most recent" in errors:
            return "wrong", errors.strip().splitlines()[-1][:200]
        if code == 2:
            lines = [line for line in errors.splitlines() if ": error: " in line]
            is_last = bool(lines) and errors.rstrip().endswith(lines[-1])
            right = len(lines) == 1 and is_last
            return ("one line, exit code 2", lines[0]) if right else ("wrong", f"said {errors!r}")
        if code != 0:
            return "wrong", f"exit code {code}: {errors.strip()[-200:]}"
        if result == self.right[command.name]:
            return "as without damage", ""
        if file.endswith(command.says or ("-",)):
            return "as the file says", ""
        return "wrong", "another result, and not a word"

    def keep_run(self, folder: Path, seed: str, text: str) -> None:
        place = self.keep / seed.replace("/", "_").replace(" ", "_")
        shutil.rmtree(place, ignore_errors=True)
        shutil.copytree(folder, place, symlinks=True, ignore=not_kept)
        (place / "what.txt").write_text(text, encoding="utf-8")


def not_kept(folder: str, names: list[str]) -> list[str]:
    """Weights, the Hub's cache, and what is no file."""
    paths = [Path(folder, name) for name in names if name != ".hf"]
    ends = [p for p in paths if p.is_symlink() or p.is_dir() or (p.is_file() and _is_small(p))]
    return sorted({*names} - {path.name for path in ends})


def _is_small(path: Path) -> bool:
    return path.stat().st_size < 2**20


def work(given: argparse.Namespace) -> None:
    """Run a share of the runs, and print each as a line of JSON."""
    hub, server = hub_server.serve()
    server.RequestHandlerClass = handler = type(
        "Handler", (DamagingHub, server.RequestHandlerClass), {}
    )
    os.environ |= {"HF_ENDPOINT": hub.url, "HF_TOKEN": hub_server.TOKEN}
    os.environ |= {"TOKENIZERS_PARALLELISM": "false", "OMP_NUM_THREADS": "1"}
    os.environ.pop("HF_HUB_OFFLINE", None)
    world = Path(given.world)
    repo = hub.repos["tester/models"] = hub_server.Repo(private=False)
    for folder in sorted((world / "models").iterdir()):
        if (folder / "config.json").exists():
            repo.commit(folder.name, hub_files(folder), "first")
    # Imported once, so that a run costs what it does and not the seconds that imports take.
    for module in ("train", "evaluate", "active_learn", "nerc.commands.predict", "datasets"):
        __import__(module)
    for module in ("training.run", "active_learning.learner", "evaluation.plots", "model.pipeline"):
        __import__(f"nerc.{module}")
    worker = Worker(world, given.keep and Path(given.keep), handler)
    chosen = [c for c in COMMANDS if given.only is None or c.name == given.only]
    first, step = map(int, given.share.split("/"))
    for number in range(first, given.runs, step):
        command = chosen[number % len(chosen)]
        result = worker.run(command, f"{given.seed} {command.name} {number}")
        print(json.dumps(result), flush=True)


def hub_files(folder: Path) -> dict[str, hub_server.File]:
    """The files of a revision as the Hub has them."""
    files = {}
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        content = path.read_bytes()
        is_large = path.name.endswith(hub_server.LARGE)
        large = hashlib.sha256(content).hexdigest() if is_large else None
        files[str(path.relative_to(folder))] = hub_server.File(content, large)
    return files


# ------------------------------------------------------------ tally


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--runs", type=int, default=2600, help="damaged inputs (default: 2600)")
    parser.add_argument("--seed", type=int, default=0, help="of the damage (default: 0)")
    parser.add_argument("--jobs", type=int, default=2, help="runs at a time (default: 2)")
    parser.add_argument("--only", choices=[c.name for c in COMMANDS], help="one command")
    parser.add_argument("--keep", help="folder for the runs that ended badly")
    parser.add_argument("--world", help="folder of the undamaged files, made where it is missing")
    records.add_flag(parser)
    parser.add_argument("--share", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.share:
        work(given)
        return 0
    how = {"encoder": "tiny", "corpus": "sample", "threads": 1, "seeds": [given.seed]}
    about = records.about("damage", given, "runs", **how)
    about["settings"] |= {"only": given.only} if given.only else {}
    with tempfile.TemporaryDirectory() as place:
        world = Path(given.world or Path(place) / "world").resolve()
        if not world.exists():
            build(world)
        flags = ["--runs", str(given.runs), "--seed", str(given.seed), "--world", str(world)]
        flags += ["--only", given.only] if given.only else []
        flags += ["--keep", str(Path(given.keep).resolve())] if given.keep else []
        workers = [
            subprocess.Popen(
                [sys.executable, __file__, *flags, "--share", f"{i}/{given.jobs}"],
                stdout=subprocess.PIPE,
                text=True,
            )
            for i in range(given.jobs)
        ]
        results = [json.loads(line) for worker in workers for line in worker.stdout]
        failed = [worker for worker in workers if worker.wait()]
    for result in results:
        if result["outcome"] == "wrong":
            print("wrong:", json.dumps(result))
    tables.report([about | row for row in tally(results)], given.record)
    num_wrong = sum(result["outcome"] == "wrong" for result in results)
    print(f"{len(results):,} damaged inputs, {num_wrong} ended wrongly")
    return 1 if num_wrong or failed else 0


def tally(results: Sequence[dict]) -> list[dict]:
    """How the runs of each command ended, and which files were damaged: rows of a record."""
    rows = []
    for command in COMMANDS:
        counts = Counter(r["outcome"] for r in results if r["command"] == command.name)
        if counts:
            files = dict.fromkeys(target.rpartition("/")[2] for target in command.targets)
            run = {"files": ", ".join(files), "damaged": counts.total()}
            run |= {outcome: counts[outcome] for outcome in OUTCOMES}
            rows.append({"row": command.name, "runs": [run]})
    return rows


if __name__ == "__main__":
    sys.exit(main())
