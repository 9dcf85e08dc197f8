"""Products in float32 by oneDNN are those of torch, and are used where they are faster."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from nerc.hardware import processor_facts
from nerc.model import products
from nerc.model.layers import replace_layers


@pytest.fixture(params=[False, True], ids=["MKL", "oneDNN"])
def library(request, monkeypatch):
    if request.param and not torch.backends.mkldnn.is_available():
        pytest.skip("this torch has no oneDNN")
    monkeypatch.setattr(products, "onednn_is_faster", lambda: request.param)
    return request.param


@pytest.mark.parametrize("shape", [(33,), (5, 7), (1,)], ids=str)
@pytest.mark.parametrize("with_bias", [True, False])
def test_linear_and_its_gradients_are_torchs(library, shape, with_bias):
    torch.manual_seed(0)
    rows = torch.randn(*shape, 24, requires_grad=True)
    weight = torch.randn(40, 24, requires_grad=True)
    bias = torch.randn(40, requires_grad=True) if with_bias else None
    sources = [t for t in (rows, weight, bias) if t is not None]
    factors = torch.randn(*shape, 40)
    results = []
    for function in (F.linear, products.linear):
        out = function(rows, weight, bias)
        results.append([out, *torch.autograd.grad((out * factors).sum(), sources)])
    for wanted, found in zip(*results, strict=True):
        torch.testing.assert_close(found, wanted, atol=1e-5, rtol=1e-5)
    node = products.linear(rows, weight, bias).grad_fn
    assert ("_Linear" in f"{node} {node.next_functions}") == library


def test_frozen_weights_get_no_gradient(library):
    layer = products.Linear(4, 3).requires_grad_(False)
    rows = torch.randn(2, 4, requires_grad=True)
    layer(rows).sum().backward()
    assert layer.weight.grad is None and rows.grad is not None


@pytest.mark.parametrize("case", ["float64", "no rows", "autocast"])
def test_what_is_not_float32_on_a_cpu_stays_torchs(case, library):
    layer, dtype = products.Linear(4, 3), torch.float64 if case == "float64" else torch.float32
    rows = torch.randn(0 if case == "no rows" else 2, 4, dtype=dtype)
    with torch.autocast("cpu", torch.bfloat16, enabled=case == "autocast"):
        found = layer.to(dtype)(rows)
        assert found.equal(F.linear(rows, layer.weight, layer.bias))
    assert found.dtype == (torch.bfloat16 if case == "autocast" else dtype)


@pytest.mark.parametrize(
    "vendor, flags, is_amd",
    [
        ("AuthenticAMD", "fpu avx2 avx512f avx512dq", True),
        ("AuthenticAMD", "fpu avx2", False),
        ("GenuineIntel", "fpu avx2 avx512f avx512dq", False),
        (None, None, False),
    ],
)
def test_the_processor_decides_which_library_multiplies(vendor, flags, is_amd, tmp_path):
    cpuinfo = tmp_path / "cpuinfo"
    if vendor:
        cpuinfo.write_text(f"vendor_id\t: {vendor}\nflags\t\t: {flags}\n")
    assert products.is_amd_with_avx512(processor_facts(cpuinfo)) == is_amd


def test_replacing_layers_keeps_weights_and_random_numbers():
    net = nn.Sequential(nn.Linear(2, 2), nn.Bilinear(2, 2, 2), nn.Sequential(nn.Linear(2, 3)))
    before = dict(net.named_parameters())
    torch.manual_seed(0)
    expected = torch.rand(2)
    torch.manual_seed(0)
    replace_layers(net)
    assert torch.rand(2).equal(expected)
    assert all(p is before[name] for name, p in net.named_parameters())
    assert [type(m) for m in net.modules() if isinstance(m, nn.Linear)] == [products.Linear] * 2
