"""Recipes: the training settings that apply where the command line gives none."""

from typing import Any

# The settings of each recipe; a flag overrides its value.
RECIPES: dict[str, dict[str, Any]] = {
    # The published recipe of the project that nerc replaces.
    "paper": {
        "optimizer": "sgd",
        "lr": 1e-3,
        "head_lr": 1e-3,
        "momentum": 0.9,
        "weight_decay": 0.0,
        "warmup": 0.0,
        "schedule": "constant",
        "clip": 0.0,
        "batch_size": 32,
        "epochs": 5,
        "combine": "concat",
        "repair": ("none",),
        "word_shapes": "no",
    },
    # Chosen on validation F1. The learning rate is that of bert-base; see TrainConfig.resolved.
    "strong": {
        "optimizer": "adamw",
        "lr": 5e-5,
        "head_lr": 1e-3,
        "momentum": 0.0,
        "weight_decay": 0.01,
        "warmup": 0.1,
        "schedule": "linear",
        "clip": 1.0,
        "batch_size": 32,
        "epochs": 4,
        "epochs_llm": 2,
        "combine": "selftrain",
        "repair": ("auto",),
        "word_shapes": None,  # where the tokenizer folds case
    },
}

# The recipe strong gives training sets of less than SMALL sentences smaller batches and at least
# SMALL_UPDATES updates, and those of less than FEW also a smaller learning rate of the encoder.
SMALL = 2000
SMALL_BATCH_SIZE = 16
SMALL_UPDATES = 480
FEW = 500
FEW_LR = 0.5
