"""Compares training speed with transformers' Trainer for encoders of each family.

python benchmarks/families.py --corpus DIR --encoder DIR

The encoders have random weights, the sizes and the tokenizer of a pretrained one, and no BiLSTM;
both sides train as in train_speed.py, in bf16 or, where that is not computed here, in float32, and
take turns. Prints a table of medians of words per second, of the last epoch.
"""

import sys
import tempfile
from pathlib import Path

import tables
from train_speed import PEER, ROWS, can_run, cut, described, measure, new_parser

# family -> fields of its configuration beside the sizes, or in their place
FAMILIES = {
    "bert": {},
    "roberta": {"max_position_embeddings": 514},
    "distilbert": {},
    "electra": {"embedding_size": 384},
    "deberta-v2": {
        "relative_attention": True,
        "pos_att_type": ["p2c", "c2p"],
        "position_buckets": 256,
    }
    | {"share_att_key": True, "norm_rel_ebd": "layer_norm", "max_relative_positions": -1},
    "modernbert": {"max_position_embeddings": 1024},
}
RENAMED = {"hidden_size": "dim", "num_hidden_layers": "n_layers", "num_attention_heads": "n_heads"}
RENAMED |= {"intermediate_size": "hidden_dim"}  # DistilBERT's


def main() -> None:
    how = {"sentences": 320, "judged": 50, "encoder": "a BERT, for its sizes"}
    given = new_parser(__doc__, **how).parse_args()
    given.recipe = "strong"
    about = described("families", given)
    precision = "bf16" if can_run("bf16") else "float32"
    names = {"trainer": f"{PEER}, {precision}", "nerc": f"nerc without BiLSTM, {precision}"}
    runs: dict[str, list[dict]] = {family: [] for family in FAMILIES}
    with tempfile.TemporaryDirectory() as place:
        given.corpus = cut(Path(given.corpus), Path(place), given.sentences, given.judged)
        encoders = {family: make(family, given.encoder, Path(place)) for family in FAMILIES}
        for seed in range(given.repeats):
            for family, given.encoder in encoders.items():
                run = {
                    side: measure(name, ROWS[name], given, seed, Path(place))["words_per_second"]
                    for side, name in names.items()
                }
                runs[family].append(run)
                print(f"{family}, {precision}: {run}", file=sys.stderr, flush=True)
    rows = [about | {"row": f"{family}, {precision}", "runs": of} for family, of in runs.items()]
    tables.report(rows, given.record)


def make(family: str, like: str, place: Path) -> str:
    """The folder of a new encoder of a family, with the sizes and the tokenizer of a BERT."""
    import transformers

    known = transformers.AutoConfig.from_pretrained(like)
    tokenizer = transformers.AutoTokenizer.from_pretrained(like)
    sizes = {name: getattr(known, name) for name in (*RENAMED, "max_position_embeddings")}
    if family == "distilbert":
        sizes = {RENAMED.get(name, name): size for name, size in sizes.items()}
    values = sizes | {"vocab_size": len(tokenizer)} | FAMILIES[family]
    values |= {f"{n}_token_id": getattr(tokenizer, f"{n}_token_id") for n in ("pad", "cls", "sep")}
    values |= {"bos_token_id": tokenizer.cls_token_id, "eos_token_id": tokenizer.sep_token_id}
    transformers.set_seed(0)
    config = transformers.CONFIG_MAPPING[family](**values)
    folder = str(place / family)
    transformers.AutoModel.from_config(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


if __name__ == "__main__":
    main()
