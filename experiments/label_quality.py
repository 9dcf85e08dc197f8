"""What weak labels of F1 0.45 and of F1 0.85 are worth beside 240 expert sentences.

  python experiments/label_quality.py --folder DIR [--seeds 0 1 2] [--num-threads 1]
  python experiments/label_quality.py

The text is the built-in corpus, and the encoder tiny. The first weak labels are those of the
corpus, with the errors of a model that lost count of the words. The others are asked for with
`nerc annotate`, of the stub of a server in tests/, which knows the expert labels and plants errors
and faults of form: it stands for a good model. DIR keeps the corpora and the models; a run that is
in the results already is not made again. Every run is a line of label_quality.jsonl beside this
file; without flags, the table is printed.
"""

import argparse
import json
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
ROOT = HERE.parent
sys.path.insert(0, str(ROOT))  # run from anywhere

from nerc.tables import markdown, spread  # noqa: E402

RESULTS = HERE / "label_quality.jsonl"
TRAINING = "sample:30000"  # of which 4,347 have weak labels in the built-in corpus
HELD_OUT = "sample"
FAULTS = "changed=0.03 missing=0.02 extra=0.02 unknown_type=0.02 unclosed=0.01 prose=0.05 case=0.02"
FAULTS += " refusal=0.005 cut_off=0.005 empty=0.005 429=0.02 500=0.01 dropped=0.01"
WEAK = {"lost count": "the corpus's, lost count", "annotated": "annotate, from the stub"}
RUNS = {"": "--data gold --expert 240"} | dict.fromkeys(WEAK, "--data mixed --expert 240")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--folder", type=Path, help="for corpora and models")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--num-threads", default="0")
    given = parser.parse_args()
    if given.folder:
        agreement = {weak: prepare(given.folder / weak.replace(" ", "_"), weak) for weak in WEAK}
        known = {(line["weak"], line["seed"]) for line in lines()}
        for seed in given.seeds:
            for weak, flags in RUNS.items():
                if (weak, seed) not in known:
                    line = {"weak": weak, "seed": seed} | agreement.get(weak, {})
                    line |= measure(given, weak, flags, seed)
                    with RESULTS.open("a", encoding="utf-8") as file:
                        file.write(json.dumps(line) + "\n")
    print(table())


def lines() -> list[dict]:
    if not RESULTS.exists():
        return []
    return [json.loads(line) for line in RESULTS.read_text(encoding="utf-8").splitlines()]


def call(*command: str) -> None:
    print("\n$", *command, flush=True)
    subprocess.run([sys.executable, *command], cwd=ROOT, check=True)


def prepare(folder: Path, weak: str) -> dict:
    """Write a corpus with weak labels; how far they agree with the experts'."""
    from nerc.annotation.weak_files import WeakFiles
    from nerc.data import sources

    if not (folder / "audit.json").exists():
        folder.mkdir(parents=True, exist_ok=True)
        for split in ("train", "validation", "test"):
            corpus = TRAINING if split == "train" else HELD_OUT
            write(folder / sources.FILES[split], sources.load(corpus, split))
        written = sources.load(TRAINING, "llm")
        if weak == "annotated":
            write(folder / "unlabelled.txt", written)
            annotate(folder)
        else:
            rows = ((s, [{tag: 1.0} for tag in s.tags]) for s in written)
            WeakFiles(folder, None).write_labels(rows)
        call("-m", "nerc", "audit", "--corpus", str(folder), "--json", str(folder / "audit.json"))
    audit = json.loads((folder / "audit.json").read_text(encoding="utf-8"))
    row = audit["tables"]["agreement by type"]["rows"][0]
    return {"sentences": audit["sentences_with_experts"], "label_f1": row[-1]}


def write(path: Path, corpus) -> None:
    """Write words and tags of a corpus."""
    text, document = [], None
    for sentence in corpus:
        if sentence.document != document:
            text.append("-DOCSTART- O\n\n")
            document = sentence.document
        pairs = zip(sentence.words, sentence.tags, strict=True)
        text.append("".join(f"{word} {tag}\n" for word, tag in pairs) + "\n")
    path.write_text("".join(text), encoding="utf-8")


def annotate(folder: Path) -> None:
    """Ask the stub for labels of unlabelled.txt; 240 expert sentences are examples."""
    sys.path.insert(0, str(ROOT / "tests"))
    from llm_replies import GOOD_MODEL_ERRORS

    command = [sys.executable, "tests/llm_server.py", "--gold", str(folder / "train.txt")]
    command += ["--errors", str(GOOD_MODEL_ERRORS), "--again", "0.3", "--faults", *FAULTS.split()]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as server:
        try:
            url = server.stdout.readline().strip()
            flags = ["--corpus", str(folder), "--model", "stub", "--base-url", url]
            call("-m", "nerc", "annotate", *flags, "--expert", "240")
        finally:
            server.terminate()


def measure(given: argparse.Namespace, weak: str, flags: str, seed: int) -> dict:
    """Train and evaluate on test; F1 and the time of the training."""
    corpus = given.folder / (weak or next(iter(WEAK))).replace(" ", "_")
    name = f"{weak or 'experts'}_seed{seed}".replace(" ", "_")
    models = ["--repo", str(given.folder / "models"), "--revision", name]
    how = f"{flags} --encoder tiny --precision float32 --num-threads {given.num_threads}"
    more = [*how.split(), "--seed", str(seed), "--corpus", str(corpus), "--overwrite"]
    call("train.py", *models, *more)
    report = given.folder / f"{name}.json"
    call("evaluate.py", *models, "--split", "test", "--json", str(report))
    (scores,) = json.loads(report.read_text(encoding="utf-8")).values()
    run = json.loads((given.folder / "models" / name / "run.json").read_text(encoding="utf-8"))
    about = {key: run.get(key) for key in ("git_commit", "hardware")}
    return {"test_f1": scores["test"]["f1"]} | about


def table() -> str:
    """Test F1 in percent, mean and standard deviation over the seeds."""
    rows = [["Weak labels", "their F1", "sentences", "seeds", "test F1 with 240 experts"]]
    for weak, name in {"": "none", **WEAK}.items():
        found = sorted((x for x in lines() if x["weak"] == weak), key=lambda x: x["seed"])
        if found:
            about = ["-", "-"]
            if weak:
                about = [f"{found[0]['label_f1']:.3f}", f"{found[0]['sentences']:,}"]
            seeds = ", ".join(str(line["seed"]) for line in found)
            rows.append([name, *about, seeds, spread([100 * line["test_f1"] for line in found])])
    return markdown(rows)


if __name__ == "__main__":
    main()
