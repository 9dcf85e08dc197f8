"""Dropout and BiLSTM against torch's own; attention on a GPU against attention on a CPU."""

import pytest
import torch
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence, pad_sequence
from transformers import BertConfig
from transformers.models.bert.modeling_bert import BertLayer

from nerc.model import modeling
from nerc.model.attention import HeadRows, attend_on_cpu, attend_on_gpu, visible_pieces
from nerc.model.layers import Dropout, bilstm, dropout_mask, grid_cells, replace_layers


def torchs(lstm, words, num_words):
    """torch's own packed LSTM of sentences that lie one after the other."""
    grid = pad_sequence(words.split(num_words.tolist()), batch_first=True)
    packed = pack_padded_sequence(grid, num_words, batch_first=True, enforce_sorted=False)
    found, _ = pad_packed_sequence(lstm(packed)[0], batch_first=True)
    return torch.cat([row[:length] for row, length in zip(found, num_words, strict=True)])


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("lengths", [[3, 1, 6, 6, 2], [1], [4, 4], [1, 1, 1], [8, 7], [1, 20, 2]])
def test_bilstm_equals_torchs_packed_bilstm(lengths, dtype):
    """oneDNN computes float32, and torch's own code float64."""
    torch.manual_seed(0)
    lstm = nn.LSTM(5, 7, batch_first=True, bidirectional=True).to(dtype)
    num_words = torch.tensor(lengths)
    words = torch.randn(sum(lengths), 5, dtype=dtype, requires_grad=True)
    wanted = torchs(lstm, words, num_words)
    weights = torch.randn_like(wanted)
    sources = [words, *lstm.parameters()]
    gradients = torch.autograd.grad((wanted * weights).sum(), sources)
    how = {"atol": 1e-5, "rtol": 1e-5} if dtype == torch.float32 else {}
    for cells in (None, grid_cells(num_words)):  # as on a CPU, and as on a GPU
        found = bilstm(lstm, words, num_words, cells)
        torch.testing.assert_close(found, wanted, **how)
        ours = torch.autograd.grad((found * weights).sum(), sources)
        for own, theirs in zip(ours, gradients, strict=True):
            torch.testing.assert_close(own, theirs, **how)


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


def test_bilstm_in_bf16_is_close_to_float32():
    torch.manual_seed(0)
    lstm = nn.LSTM(24, 16, batch_first=True, bidirectional=True)
    words, num_words = torch.randn(20, 24), torch.tensor([9, 4, 7])
    results = []
    for enabled in (False, True):
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            out = bilstm(lstm, words, num_words)
        assert out.dtype == (torch.bfloat16 if enabled else torch.float32)
        gradients = torch.autograd.grad(out.float().square().sum(), list(lstm.parameters()))
        results.append([out, *gradients])
    for exact, rounded in zip(*results, strict=True):
        # bf16 keeps 8 bits, of which sums over nine steps lose some.
        assert 0 < (rounded.float() - exact).norm() < 0.02 * exact.norm()


@pytest.mark.parametrize("p", [1e-6, 0.1, 0.5, 0.99, 1 - 1e-6])
def test_dropout_drops_its_share_and_scales_the_rest(p):
    torch.manual_seed(0)
    x = torch.ones(1001, 9, requires_grad=True)
    layer = Dropout(p)
    shares = torch.tensor([(layer(x) == 0).double().mean() for _ in range(400)])
    # Four standard deviations of a mean: of its draws, and of the masks' shares, 1 / 256 apart.
    most = p * (1 - p) / x.numel() + 256**-2 * min(p * 256, (1 - p) * 256, 0.25)
    assert abs(shares.mean() - p) < 4 * (most / len(shares)) ** 0.5
    out = layer(x)
    torch.testing.assert_close(out[out != 0], torch.full_like(out[out != 0], 1 / (1 - p)))
    (gradient,) = torch.autograd.grad(out.sum(), x)
    assert gradient.equal(out)
    assert p in (1e-6, 1 - 1e-6) or layer(x).ne(out).any()
    assert layer.eval()(x) is x or layer(x).equal(x)
    assert Dropout(0.0)(x).equal(x)


def test_replace_layers_replaces_every_one():
    net = nn.Sequential(nn.Dropout(0.2), nn.Sequential(nn.Linear(2, 2), nn.Dropout(0.3)))
    replace_layers(net)
    kinds = [(type(m), m.p) for m in net.modules() if isinstance(m, nn.Dropout)]
    assert kinds == [(Dropout, 0.2), (Dropout, 0.3)]


# ------------------------------------------------------------ attention


RAGGED = [9, 2, 9, 3, 1]  # pieces of each window, of which a CPU reads some in one row


def head_rows(lengths: list[int], num_heads: int = 3, dtype=torch.float32) -> HeadRows:
    return HeadRows.of(torch.tensor(lengths), num_heads, dtype)


@pytest.mark.parametrize("lengths", [RAGGED, [16] * 3, [5], [200, 3, 120, 90, 0, 7]])
def test_attention_on_a_gpu_computes_what_it_computes_on_a_cpu(lengths):
    """Values and gradients, both computed on the CPU here."""
    torch.manual_seed(0)
    config = BertConfig(hidden_size=24, num_attention_heads=3, intermediate_size=32)
    layer = BertLayer(config).eval()
    mask = torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]
    grids = modeling._grids(mask, mask.flatten().nonzero().flatten(), None)
    hidden = torch.randn(sum(lengths), 24, requires_grad=True)
    weights = torch.randn(sum(lengths), 24)
    attention = layer.attention.self
    sources = [hidden, *attention.parameters()]
    results = []
    for attend, where in ((attend_on_cpu, head_rows(lengths)), (attend_on_gpu, grids)):
        context = attend(layer, hidden, where)
        gradients = torch.autograd.grad((context * weights).sum(), sources)
        results.append([context, *gradients])
    assert len(results[0]) == 8 and results[0][0].shape == (sum(lengths), 24)
    for by_hand, fused in zip(*results, strict=True):
        torch.testing.assert_close(fused, by_hand, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("dropout", [0.0, 0.4])
def test_attention_on_a_cpu_is_that_of_the_equations(dropout):
    """Values and gradients, by autograd over each window without padding, head by head."""
    torch.manual_seed(0)
    layer = BertLayer(BertConfig(hidden_size=24, num_attention_heads=3, intermediate_size=32))
    replace_layers(layer)
    attention = layer.attention.self
    attention.dropout.p = dropout
    hidden, weights = torch.randn(sum(RAGGED), 24, requires_grad=True), torch.randn(24, 24)

    def by_equations() -> torch.Tensor:
        shape = torch.Size((2 * 3, 16, 16))
        factors = dropout_mask(shape, dropout, torch.float32) if dropout else torch.ones(shape)
        inputs, contexts = hidden.split(RAGGED), {}
        # A row has the longest window that is left, and then the shortest ones.
        for of_row, windows in zip(factors.view(2, 3, 16, 16), ([0, 4, 1, 3], [2]), strict=True):
            start = 0
            for window in windows:
                x, heads = inputs[window], []
                own = slice(start, start + len(x))
                for head, factor in enumerate(of_row[:, own, own]):
                    dims = slice(8 * head, 8 * head + 8)
                    projections = attention.query, attention.key, attention.value
                    q, k, v = (p(x)[:, dims] for p in projections)
                    heads.append(((q @ k.T / 8**0.5).softmax(dim=1) * factor) @ v)
                contexts[window] = torch.cat(heads, dim=1)
                start = own.stop
        return torch.cat([contexts[window] for window in range(len(RAGGED))])

    results = []
    for compute in (by_equations, lambda: attend_on_cpu(layer, hidden, head_rows(RAGGED))):
        torch.manual_seed(1)
        context = compute()
        sources = [hidden, *attention.parameters()]
        results.append([context, *torch.autograd.grad((context * weights).sum(), sources)])
    for wanted, found in zip(*results, strict=True):
        torch.testing.assert_close(found, wanted, atol=1e-5, rtol=0)


def test_attention_on_a_gpu_has_dropout_in_training_alone():
    torch.manual_seed(0)
    config = BertConfig(hidden_size=24, num_attention_heads=3, intermediate_size=32)
    layer = BertLayer(config)
    replace_layers(layer)
    mask = torch.ones(4, 8, dtype=torch.bool)
    grids = modeling._grids(mask, torch.arange(32), None)
    hidden = torch.randn(32, 24)
    training = [attend_on_gpu(layer.train(), hidden, grids) for _ in range(2)]
    assert not training[0].equal(training[1])
    one, two = (attend_on_gpu(layer.eval(), hidden, grids) for _ in range(2))
    assert one.equal(two)


def test_a_window_of_padding_alone_has_finite_attention_in_bf16_on_a_cpu():
    layer = BertLayer(BertConfig(hidden_size=8, num_attention_heads=2, intermediate_size=8)).eval()
    rows = head_rows([2, 0], 2, torch.bfloat16)
    with torch.autocast("cpu", torch.bfloat16):
        context = attend_on_cpu(layer, torch.randn(2, 8).bfloat16(), rows)
    context.float().sum().backward()
    assert context.isfinite().all() and layer.attention.self.key.weight.grad.isfinite().all()


def test_a_window_of_padding_alone_has_finite_attention_and_gradients_on_a_gpu():
    """The mask that a GPU gets: on torch's meta device, which is no CPU; then computed here."""
    mask = torch.tensor([[True, True, False], [False, False, False]])
    ((_, _, grid_mask),) = modeling._grids(
        mask.to("meta"), torch.arange(2, device="meta"), [(0, 2, 3)]
    )
    assert grid_mask.device.type == "meta" and grid_mask.shape == mask.shape
    visible = visible_pieces(mask)
    assert visible.tolist() == [[True, True, False], [True, True, True]]
    layer = BertLayer(BertConfig(hidden_size=8, num_attention_heads=2, intermediate_size=8)).eval()
    hidden = torch.randn(3, 8, requires_grad=True)
    grids = [(slice(None), torch.tensor([0, 1, 3]), visible)]
    context = attend_on_gpu(layer, hidden, grids)
    context.sum().backward()
    assert context.isfinite().all() and hidden.grad.isfinite().all()
