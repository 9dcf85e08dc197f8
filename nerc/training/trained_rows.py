"""The rows of the encoder's embedding table that a training reads: only these are trained.

A training reads few of a vocabulary's word pieces: those of CoNLL-2003 are half of BERT's. Of the
other rows, every gradient would be 0. Without them, optimiser, clipping and the exchange between
processes have less to do, and these rows stay as pretrained: weights decay only where they learn.

Shapes: V pieces in the vocabulary, R of them read, H hidden size.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F
from transformers import PreTrainedModel

from nerc.model.encoding import Encoded


class TrainedRows(nn.Embedding):
    """Stands in for a table (V, H) during a training: then it reads its parameter rows (R, H).

    In evaluation mode it reads the table, which has their values after write(). state_dict() is
    that of the table, as it has become.
    """

    def __init__(self, table: nn.Embedding, read: np.ndarray) -> None:
        size, padding = table.weight.shape, table.padding_idx
        super().__init__(*size, padding_idx=padding, _weight=table.weight, _freeze=False)
        self.weight = table.weight  # the same parameter
        device = table.weight.device
        self.read = torch.from_numpy(read).to(device)  # (R,)
        self.places = torch.full(size[:1], -1, device=device)  # (V,), -1: none
        self.places[self.read] = torch.arange(len(read), device=device)
        self.padding_row = None if padding is None else int(self.places[padding])
        self.rows = nn.Parameter(table.weight.detach()[self.read])

    @classmethod
    def of(
        cls, encoder: PreTrainedModel, data: Encoded, sentences: np.ndarray
    ) -> "TrainedRows | None":
        """The rows that sentences read; None where the encoder's table is frozen, or not plain."""
        table = encoder.get_input_embeddings()
        if type(table) is not nn.Embedding or not table.weight.requires_grad:
            return None
        # Padding is read, too, and the table may know it by another number.
        padding = {encoder.config.pad_token_id or 0, table.padding_idx} - {None}
        return cls(table, np.union1d(data.distinct_pieces(sentences), [*padding]))

    @contextmanager
    def replacing(self, encoder: PreTrainedModel) -> Iterator[None]:
        """Meanwhile, the encoder has this instead of its table."""
        table = encoder.get_input_embeddings()
        (name,) = (name for name, module in encoder.named_modules() if module is table)
        self.rows.data.copy_(table.weight.detach()[self.read])
        encoder.set_submodule(name, self.train(table.training))
        self.weight.requires_grad_(False)
        try:
            yield
        finally:
            self.write()
            self.weight.requires_grad_(True)
            encoder.set_submodule(name, table.train(self.training))

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        if not self.training:
            return super().forward(ids)
        return F.embedding(self.places[ids], self.rows, self.padding_row)

    def _save_to_state_dict(self, destination, prefix, keep_vars) -> None:
        self.write()
        super()._save_to_state_dict(destination, prefix, keep_vars)
        del destination[f"{prefix}rows"]

    @torch.no_grad()
    def write(self) -> None:
        """Give the table what its rows have learnt."""
        self.weight[self.read] = self.rows
