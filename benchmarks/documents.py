"""Measures what --context document costs: the CPU time of an epoch and of prediction, by context.

python benchmarks/documents.py --corpus DIR --encoder DIR

Takes the first documents of train.txt, of about 1,000 sentences, in turns with and without
documents, for three seeds, in float32 and one thread. CPU seconds do not depend on what else runs.
"""

import argparse
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

sys.path.insert(0, str(Path(__file__).parents[1]))  # nerc need not be installed

NUM_SENTENCES, SEEDS = 1000, range(3)
CONTEXTS = ("none", "document")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--corpus", required=True, help="folder with train.txt")
    parser.add_argument("--encoder", required=True, help="folder of the pretrained encoder")
    given = parser.parse_args()
    import torch

    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        blocks = Path(given.corpus, "train.txt").read_text(encoding="utf-8").split("\n\n")
        text = "\n\n".join(blocks[:NUM_SENTENCES]) + "\n"
        Path(folder, "train.txt").write_text(text, encoding="utf-8")
        ratios = []
        for seed in SEEDS:
            seconds = {c: measure(folder, given.encoder, c, seed) for c in CONTEXTS}
            pairs = zip(*(seconds[context] for context in CONTEXTS), strict=True)
            ratios.append([with_documents / alone for alone, with_documents in pairs])
            print(f"seed {seed}: training and prediction, CPU seconds: {seconds}", flush=True)
    for name, values in zip(("training", "prediction"), zip(*ratios, strict=True), strict=True):
        print(f"{name}: {median(values):.2f} times the time without documents")


def measure(corpus: str, encoder: str, context: str, seed: int) -> tuple[float, float]:
    """CPU seconds of an epoch, and of prediction of the same sentences."""
    from accelerate import Accelerator
    from transformers import set_seed

    from nerc.config import DataConfig, ModelConfig, TrainConfig
    from nerc.distributed import Session, Status, StopSignals
    from nerc.model.inference import predict
    from nerc.model.precision import Precision
    from nerc.store.revisions import Store
    from nerc.training import setup
    from nerc.training.trainer import Trainer, TrainingData

    set_seed(seed)
    accelerator = Accelerator(cpu=True)
    start = setup.prepare(
        DataConfig(data="gold", corpus=corpus),
        ModelConfig(encoder=encoder, context=context),
        TrainConfig(keep="last", epochs=1, batch_size=32, seed=seed),
        Store(corpus),
        Precision("float32", accelerator),
    )
    session = Session(accelerator, StopSignals(accelerator), Status(None))
    data = TrainingData(start.encoded["train"])
    training = Trainer(start.model, data, start.config, session, bf16=False)
    began = time.process_time()
    list(training.run())
    trained = time.process_time()
    predict(start.model, start.encoded["train"])
    return trained - began, time.process_time() - trained


if __name__ == "__main__":
    main()
