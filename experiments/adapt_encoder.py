"""Continue the masked-language training of an encoder on the text of a corpus, without its labels.

  python experiments/adapt_encoder.py --encoder DIR --corpus DIR --output DIR

(Gururangan et al. 2020, "Don't stop pretraining".) The output is an encoder for --encoder. The text
of train.txt is read in windows of 126 word pieces, cut at a new place in every epoch; 15 % of the
pieces are hidden (80 % masked, 10 % replaced, 10 % as they are). The head that predicts them is
new, as encoders come without one, and is not kept.
"""

import argparse
import os
import shutil
import sys
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional as F
from tqdm import tqdm
from transformers import AutoModelForMaskedLM, PreTrainedModel, PreTrainedTokenizerBase

sys.path.insert(0, str(Path(__file__).parents[1]))  # run from anywhere

from nerc.data import sources  # noqa: E402
from nerc.model import encoding  # noqa: E402
from nerc.model.tokenizer import load_tokenizer  # noqa: E402

WINDOW, BATCH_SIZE, WARMUP = 126, 32, 0.1
HIDDEN = 0.15  # share of the pieces
MASKED, KEPT = 0.8, 0.9  # of the hidden pieces, those with a draw below and up to it
REPLACED_BY = (1000, 30_000)  # ids in BERT's vocabularies, whose first thousand are no words


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--encoder", required=True, help="folder of the pretrained encoder")
    parser.add_argument("--corpus", required=True, help="folder with train.txt")
    parser.add_argument("--output", required=True, help="folder of the new encoder")
    parser.add_argument("--epochs", type=int, default=10, help="passes over the text (default: 10)")
    parser.add_argument("--lr", type=float, default=1e-4, help="peak learning rate (default: 1e-4)")
    given = parser.parse_args()
    if Path(given.output).exists():
        parser.error(f"--output {given.output}: is there already")
    torch.manual_seed(0)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    model = AutoModelForMaskedLM.from_pretrained(given.encoder, dtype=torch.float32).to(device)
    tokenizer = load_tokenizer(given.encoder, model.config.vocab_size)
    corpus = sources.load(given.corpus, "train")
    limit = model.config.max_position_embeddings
    encoded = encoding.encode(corpus, tokenizer, corpus.inventory(), limit)
    train(model, tokenizer, torch.from_numpy(encoded.pieces.astype(np.int64)), given)
    new = f"{given.output}.new"
    shutil.rmtree(new, ignore_errors=True)
    shutil.copytree(given.encoder, new)
    model.base_model.save_pretrained(new)
    os.rename(new, given.output)


def train(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    pieces: torch.Tensor,
    given: argparse.Namespace,
) -> None:
    """Train the model on pieces (number of pieces,), with a learning rate that rises and falls."""
    device, generator = model.device, torch.Generator().manual_seed(0)
    optimizer = torch.optim.AdamW(model.parameters(), lr=given.lr, weight_decay=0.01)
    num_updates = given.epochs * (len(pieces) // WINDOW // BATCH_SIZE)
    updates = windows(pieces, tokenizer, given.epochs, generator)
    progress = tqdm(range(num_updates), desc="masked-language training", mininterval=1)
    for update, rows in zip(progress, updates, strict=False):
        inputs, is_hidden = hide(rows, tokenizer, generator)
        share = (update + 1) / (WARMUP * num_updates)
        left = (num_updates - update) / ((1 - WARMUP) * num_updates)
        for group in optimizer.param_groups:
            group["lr"] = given.lr * min(share, left)
        with torch.autocast(device.type, torch.bfloat16):
            logits = model(inputs.to(device)).logits[is_hidden.to(device)].float()
        loss = F.cross_entropy(logits, rows[is_hidden].to(device))
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()


def windows(pieces: torch.Tensor, tokenizer, epochs: int, generator: torch.Generator):
    """Batches of windows (BATCH_SIZE, WINDOW + 2) with their special pieces."""
    for _ in range(epochs):
        first = int(torch.randint(WINDOW, (1,), generator=generator))
        number = (len(pieces) - first) // WINDOW
        rows = pieces[first : first + number * WINDOW].view(number, WINDOW)
        ends = [
            torch.full((number, 1), i) for i in (tokenizer.cls_token_id, tokenizer.sep_token_id)
        ]
        rows = torch.cat([ends[0], rows, ends[1]], dim=1)
        for chosen in torch.randperm(number, generator=generator).split(BATCH_SIZE):
            yield rows[chosen]


def hide(rows: torch.Tensor, tokenizer, generator: torch.Generator):
    """The inputs of a batch, and which of its pieces are to be predicted."""
    is_hidden = torch.rand(rows.shape, generator=generator) < HIDDEN
    is_hidden[:, 0] = is_hidden[:, -1] = False
    draw, inputs = torch.rand(rows.shape, generator=generator), rows.clone()
    inputs[is_hidden & (draw < MASKED)] = tokenizer.mask_token_id
    is_replaced = is_hidden & (draw > KEPT)
    others = (int(is_replaced.sum()),)
    most = min(REPLACED_BY[1], len(tokenizer))
    inputs[is_replaced] = torch.randint(REPLACED_BY[0], most, others, generator=generator)
    return inputs, is_hidden


if __name__ == "__main__":
    main()
