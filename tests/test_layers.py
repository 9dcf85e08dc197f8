"""Dropout and BiLSTM against torch's own."""

import pytest
import torch
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence, pad_sequence

from nerc.model.layers import Dropout, bilstm, grid_cells, replace_dropout


def torchs(lstm, words, num_words):
    """torch's own packed LSTM of sentences that lie one after the other."""
    grid = pad_sequence(words.split(num_words.tolist()), batch_first=True)
    packed = pack_padded_sequence(grid, num_words, batch_first=True, enforce_sorted=False)
    found, _ = pad_packed_sequence(lstm(packed)[0], batch_first=True)
    return torch.cat([row[:length] for row, length in zip(found, num_words, strict=True)])


@pytest.mark.parametrize("lengths", [[3, 1, 6, 6, 2], [1], [4, 4], [1, 1, 1]])
def test_bilstm_is_torchs_packed_bilstm(lengths):
    torch.manual_seed(0)
    lstm = nn.LSTM(5, 7, batch_first=True, bidirectional=True).double()
    num_words = torch.tensor(lengths)
    words = torch.randn(sum(lengths), 5, dtype=torch.float64, requires_grad=True)
    wanted = torchs(lstm, words, num_words)
    weights = torch.randn_like(wanted)
    sources = [words, *lstm.parameters()]
    gradients = torch.autograd.grad((wanted * weights).sum(), sources)
    for cells in (None, grid_cells(num_words)):  # as on a CPU, and as on a GPU
        found = bilstm(lstm, words, num_words, cells)
        torch.testing.assert_close(found, wanted)
        ours = torch.autograd.grad((found * weights).sum(), sources)
        for own, theirs in zip(ours, gradients, strict=True):
            torch.testing.assert_close(own, theirs)


def test_no_two_gradients_of_the_bilstm_share_memory():
    """Else what adds up or clips gradients in place would do it twice."""
    torch.manual_seed(0)
    lstm = nn.LSTM(5, 7, batch_first=True, bidirectional=True)
    bilstm(lstm, torch.randn(8, 5), torch.tensor([6, 2])).sum().backward()
    before = {name: p.grad.clone() for name, p in lstm.named_parameters()}
    for parameter in lstm.parameters():
        parameter.grad.mul_(2)
    for name, parameter in lstm.named_parameters():
        assert parameter.grad.equal(2 * before[name]), name


def test_bilstm_in_bf16_is_that_in_float32_rounded():
    torch.manual_seed(0)
    lstm = nn.LSTM(24, 16, batch_first=True, bidirectional=True)
    words, num_words = torch.randn(20, 24), torch.tensor([9, 4, 7])
    results = []
    for enabled in (False, True):
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            out = bilstm(lstm, words, num_words)
        gradients = torch.autograd.grad(out.float().square().sum(), list(lstm.parameters()))
        results.append([out, *gradients])
    for exact, rounded in zip(*results, strict=True):
        assert rounded.dtype == torch.float32 and not rounded.equal(exact)
        # bf16 keeps 8 bits, of which sums over nine steps lose some.
        assert (rounded - exact).norm() < 0.02 * exact.norm()


@pytest.mark.parametrize("p", [0.1, 0.5])
def test_dropout_drops_its_share_and_scales_the_rest(p):
    torch.manual_seed(0)
    x = torch.ones(1001, 999, requires_grad=True)
    layer = Dropout(p)
    out = layer(x)
    dropped = (out == 0).double().mean().item()
    # A million draws: four standard deviations, and the sixteen bits of p.
    assert abs(dropped - p) < 4 * (p * (1 - p) / 1e6) ** 0.5 + 2**-16
    torch.testing.assert_close(out[out != 0], torch.full_like(out[out != 0], 1 / (1 - p)))
    (gradient,) = torch.autograd.grad(out.sum(), x)
    assert gradient.equal(out)
    assert layer(x).ne(out).any()
    assert layer.eval()(x) is x or layer(x).equal(x)
    assert Dropout(0.0)(x).equal(x)


def test_replace_dropout_reaches_every_one():
    net = nn.Sequential(nn.Dropout(0.2), nn.Sequential(nn.Linear(2, 2), nn.Dropout(0.3)))
    replace_dropout(net)
    kinds = [(type(m), m.p) for m in net.modules() if isinstance(m, nn.Dropout)]
    assert kinds == [(Dropout, 0.2), (Dropout, 0.3)]
