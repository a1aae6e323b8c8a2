"""I-AM-G's attention: its equations worked out by hand, and what the backbone is left with."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from small_settings import DECODE

from generators.iamg.decoupled import Adapter, Strengths
from generators.iamg.ira import InterestRetrieveAttention
from recgen.core.errors import UserError
from recgen.diffusion.backbone import Sampling
from recgen.diffusion.conditions import Condition


def softmax(logits: np.ndarray) -> np.ndarray:
    raised = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return raised / raised.sum(axis=-1, keepdims=True)


def attend(
    queries: np.ndarray, context: np.ndarray, q: np.ndarray, k: np.ndarray, v: np.ndarray, heads: int
) -> np.ndarray:
    """Multi-head attention as the textbook has it; projections act on rows."""
    found = []
    for part in np.split(np.arange(q.shape[1]), heads):
        logits = (queries @ q[:, part]) @ (context @ k[:, part]).T / np.sqrt(len(part))
        found.append(softmax(logits) @ (context @ v[:, part]))
    return np.concatenate(found, axis=1)


def test_ira_by_hand() -> None:
    """Eqs. 10 and 11 with one head, identities and numbers that a pencil can follow."""
    ira = InterestRetrieveAttention(2, 1)
    rewritten, texts = torch.tensor([[[1.0, 0.0]]]), torch.tensor([[[2.0, 0.0], [0.0, 2.0]]])
    images = torch.tensor([[[1.0, 0.0], [0.0, 3.0]]])
    a = np.exp(2 / np.sqrt(2)) / (np.exp(2 / np.sqrt(2)) + 1)  # how much of the first text
    fused = np.array([2 * a, 2 * (1 - a)])
    b = np.exp(fused[0] / np.sqrt(2)) / (np.exp(fused[0] / np.sqrt(2)) + np.exp(3 * fused[1] / np.sqrt(2)))
    np.testing.assert_allclose(ira(rewritten, texts, images)[0, 0].detach(), [b, 3 * (1 - b)], rtol=1e-5)


def test_ira_shares_its_projections_among_four_heads() -> None:
    torch.manual_seed(0)
    ira, rng = InterestRetrieveAttention(8, 4), np.random.default_rng(0)
    for projection in (ira.query, ira.key, ira.value):
        torch.nn.init.normal_(projection.weight)
    assert sum(value.numel() for value in ira.parameters()) == 3 * 8 * 8
    q, k, v = (
        projection.weight.detach().numpy().T.astype(float) for projection in (ira.query, ira.key, ira.value)
    )
    rewritten, texts, images = (
        rng.normal(size=(2, 5, 8)),
        rng.normal(size=(2, 3, 8)),
        rng.normal(size=(2, 12, 8)),
    )
    expected = [
        attend(attend(z, phi, q, k, v, 4), psi, q, k, v, 4)
        for z, phi, psi in zip(rewritten, texts, images, strict=True)
    ]
    found = ira(*(torch.tensor(part, dtype=torch.float32) for part in (rewritten, texts, images)))
    np.testing.assert_allclose(found.detach(), expected, atol=1e-4)


def test_heads_that_do_not_divide_the_width_are_named() -> None:
    with pytest.raises(UserError, match=r"recgen\.iamg\.heads"):
        InterestRetrieveAttention(10, 4)


def test_the_decoupled_attention_by_hand() -> None:
    """Eq. 13 in numpy against what stands in the place of a diffusers attention."""
    from diffusers.models.attention_processor import Attention

    from generators.iamg.decoupled import DecoupledAttention

    torch.manual_seed(1)
    shape = {"query_dim": 6, "cross_attention_dim": 4, "heads": 2, "dim_head": 3}
    place = Attention(**shape, residual_connection=True, rescale_output_factor=2.0)
    key, value = (torch.nn.Linear(4, 6, bias=False) for _ in range(2))
    place.set_processor(DecoupledAttention(key, value, Strengths(0.5, 2.0, 0.3)))
    z, text, image, interest = (
        torch.randn(1, 7, 6),
        torch.randn(1, 5, 4),
        torch.randn(1, 1, 3, 4),
        torch.randn(1, 5, 4),
    )
    found = place(z, encoder_hidden_states=(text, [image]), interest=interest)

    q, k, v, own_k, own_v = (
        layer.weight.detach().numpy().T for layer in (place.to_q, place.to_k, place.to_v, key, value)
    )
    n = {
        name: part.numpy()[0]
        for name, part in (("z", z), ("text", text), ("image", image[0]), ("interest", interest))
    }
    whole = 2.0 * attend(n["z"], n["text"], q, k, v, 2)
    whole += 0.5 * attend(n["z"], n["image"], q, own_k, own_v, 2) + 0.3 * attend(
        n["z"], n["interest"], q, own_k, own_v, 2
    )
    out = place.to_out[0]
    expected = (whole @ out.weight.detach().numpy().T + out.bias.detach().numpy() + n["z"]) / 2.0
    np.testing.assert_allclose(found[0].detach(), expected, atol=1e-5)


class ImageOnly:
    """The image's attention and nothing else, written without the generator's code."""

    def __init__(self, stock) -> None:
        self.stock = stock

    def __call__(self, attn, hidden_states, encoder_hidden_states=None, **_):
        image = encoder_hidden_states[1][0][:, 0]
        q, k, v = attn.to_q(hidden_states), self.stock.to_k_ip[0](image), self.stock.to_v_ip[0](image)
        q, k, v = (
            x.view(len(x), -1, attn.heads, x.shape[-1] // attn.heads).transpose(1, 2) for x in (q, k, v)
        )
        mixed = (
            torch.nn.functional.scaled_dot_product_attention(q, k, v)
            .transpose(1, 2)
            .reshape(hidden_states.shape)
        )
        return attn.to_out[1](attn.to_out[0](mixed))


def drawn(backbone, adapter: Adapter, strengths: Strengths, conditions, sampling) -> np.ndarray:
    with adapter.worn_by(backbone, strengths):
        return np.stack([np.asarray(image) for image in backbone.generate(conditions, sampling)])


@pytest.fixture
def conditions() -> list[Condition]:
    rng = np.random.default_rng(2)
    images, interests = rng.normal(0, 2, (3, 16)).astype("f"), rng.normal(size=(3, 16, 16)).astype("f")
    return [Condition(n, f"a b {'xyz'[n]}", "", images[n], interest_tokens=interests[n]) for n in range(3)]


def test_without_lambdas_it_is_the_image_alone_bit_for_bit(backbone, conditions) -> None:
    sampling, unet = Sampling(**DECODE), backbone.pipeline.unet
    found = drawn(backbone, Adapter(backbone), Strengths(1.0, 0.0, 0.0), conditions, sampling)
    places = [
        unet.get_submodule(name.removesuffix(".processor"))
        for name in unet.attn_processors
        if "attn2" in name
    ]
    before = [place.processor for place in places]
    for place in places:
        place.set_processor(ImageOnly(place.processor))
    plain = [replace(each, prompt="", interest_tokens=None) for each in conditions]
    expected = np.stack([np.asarray(image) for image in backbone.generate(plain, sampling)])
    for place, processor in zip(places, before, strict=True):
        place.set_processor(processor)
    np.testing.assert_array_equal(found, expected)
    with_text = drawn(backbone, Adapter(backbone), Strengths(1.0, 1.0, 0.0), conditions, sampling)
    assert not np.array_equal(found, with_text), "the text counts when it is given a weight"


def test_it_is_diffusers_own_ip_adapter_at_the_same_scales(backbone, conditions) -> None:
    for scale in (1.0, 0.4):
        sampling = Sampling(**DECODE, ip_adapter_scale=scale)
        found = drawn(backbone, Adapter(backbone), Strengths(scale, 1.0, 0.0), conditions, sampling) / 255
        plain = [replace(each, interest_tokens=None) for each in conditions]
        stock = np.stack([np.asarray(image) for image in backbone.generate(plain, sampling)]) / 255
        assert np.abs(found - stock).max() <= 1 / 255 + 1e-9 and (np.abs(found - stock) > 1e-4).mean() < 0.005


def test_the_interest_counts_by_its_weight(backbone, conditions) -> None:
    sampling, adapter = Sampling(**DECODE), Adapter(backbone)
    other = [replace(each, interest_tokens=-each.interest_tokens) for each in conditions]
    without, some, more = (Strengths(1.0, 1.0, weight) for weight in (0.0, 0.2, 0.9))
    assert np.array_equal(
        *(drawn(backbone, adapter, without, which, sampling) for which in (conditions, other))
    )
    assert not np.array_equal(
        *(drawn(backbone, adapter, some, which, sampling) for which in (conditions, other))
    )
    start = drawn(backbone, adapter, without, conditions, sampling).astype(float)
    nearer, further = (
        np.abs(drawn(backbone, adapter, each, conditions, sampling) - start).mean() for each in (some, more)
    )
    assert 0 < nearer < further
    zeros = [replace(each, interest_tokens=np.zeros_like(each.interest_tokens)) for each in conditions]
    np.testing.assert_array_equal(drawn(backbone, adapter, more, zeros, sampling), start)


def test_the_backbone_gets_its_processors_back_even_from_an_error(backbone) -> None:
    unet = backbone.pipeline.unet
    before, keys = dict(unet.attn_processors), list(unet.state_dict())
    with (
        pytest.raises(RuntimeError, match="on the way"),
        Adapter(backbone).worn_by(backbone, Strengths(1.0, 1.0, 1.0)),
    ):
        assert sum(unet.attn_processors[name] is not before[name] for name in before) == len(before) // 2
        raise RuntimeError("on the way")
    assert (
        all(unet.attn_processors[name] is before[name] for name in before) and list(unet.state_dict()) == keys
    )
