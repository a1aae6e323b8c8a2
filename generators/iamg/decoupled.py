"""The decoupled attention (eq. 13) in the places of the UNet's cross-attentions, put on and taken off again."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from recgen.core.errors import UserError
from recgen.diffusion.backbone import Backbone


@dataclass(frozen=True)
class Strengths:
    """The weights of eq. 13: of the image (1 in the paper), lambda_1 of the text, lambda_2 of the interest."""

    image: float
    text: float
    interest: float


class Adapter(nn.Module):
    """I-AM-G's own W'_k and W'_v of every cross-attention, begun as the IP-Adapter's; W'_q and all of W'' stay the UNet's.

    Parameters
    ----------
    backbone
        Its UNet has a loaded IP-Adapter, which is copied and not touched.

    Raises
    ------
    UserError
        If it has none.
    """

    def __init__(self, backbone: Backbone) -> None:
        super().__init__()
        if backbone.adapter is None:
            raise UserError(
                "recgen.ip_adapter", found="null", expected="an IP-Adapter: iamg trains its attention"
            )
        stock = backbone.pipeline.unet.attn_processors
        self.names = [
            name.removesuffix(".processor")
            for name, processor in stock.items()
            if hasattr(processor, "to_k_ip")
        ]
        found = [stock[f"{name}.processor"] for name in self.names]
        self.keys: nn.ModuleList = nn.ModuleList(_copied(processor.to_k_ip[0]) for processor in found)
        self.values: nn.ModuleList = nn.ModuleList(_copied(processor.to_v_ip[0]) for processor in found)

    @contextmanager
    def worn_by(self, backbone: Backbone, strengths: Strengths) -> Iterator[None]:
        """Let the backbone's cross-attentions be eq. 13 in the block, and what they were after it."""
        places = [backbone.pipeline.unet.get_submodule(name) for name in self.names]
        before = [place.processor for place in places]
        try:
            for place, key, value in zip(places, self.keys, self.values, strict=True):
                assert isinstance(key, nn.Linear) and isinstance(value, nn.Linear)
                place.set_processor(DecoupledAttention(key, value, strengths))
            yield
        finally:
            for place, processor in zip(places, before, strict=True):
                place.set_processor(processor)


def _copied(projection: nn.Linear) -> nn.Linear:
    """Return a projection of the same weights, in float32, that trains."""
    copy = nn.Linear(
        projection.in_features, projection.out_features, bias=False, device=projection.weight.device
    )
    with torch.no_grad():
        copy.weight.copy_(projection.weight)
    return copy


class DecoupledAttention:
    """A diffusers attention processor for eq. 13.

    Z' = s Attn(ZW'_q, F W'_k, F W'_v) + lambda_1 Attn(ZW''_q, T W''_k, T W''_v) + lambda_2 Attn(ZW'_q, z~ W'_k, z~ W'_v), with
    foreground tokens F, text tokens T and interest z~, and W'_q = W''_q. A part of weight 0 is left out.

    Parameters
    ----------
    key, value
        W'_k and W'_v, for foreground and interest alike.
    strengths
        s, lambda_1 and lambda_2.
    """

    def __init__(self, key: nn.Linear, value: nn.Linear, strengths: Strengths) -> None:
        self.key, self.value, self.strengths = key, value, strengths

    def __call__(
        self,
        attn,
        hidden_states: Tensor,
        encoder_hidden_states: tuple[Tensor, list[Tensor]],
        attention_mask: Tensor | None = None,
        temb: Tensor | None = None,
        interest: Tensor | None = None,
    ) -> Tensor:
        """Return the attention's output ``[B, N, C]`` for `hidden_states` of that shape, as diffusers' own processor would.

        Parameters
        ----------
        attn
            The UNet's attention module, whose projections of queries, text and output are used.
        hidden_states
            Z, ``[B, N, C]``.
        encoder_hidden_states
            Text tokens ``[B, T, width]``, and in a list of one the foreground's tokens ``[B, 1, n, width]``.
        attention_mask, temb
            Not used by the cross-attentions of Stable Diffusion.
        interest
            z~, ``[B, S, width]``; None for none.
        """
        text, (image,) = encoder_hidden_states
        weights, query = self.strengths, attn.to_q(hidden_states)
        total = torch.zeros_like(query)
        if weights.text:
            total = total + weights.text * _attention(attn, query, attn.to_k(text), attn.to_v(text))
        if weights.image:
            total = total + weights.image * self._of_image(attn, query, image.flatten(1, -2))
        if weights.interest and interest is not None:
            total = total + weights.interest * self._of_image(attn, query, interest)
        out = attn.to_out[1](attn.to_out[0](total))
        return (out + hidden_states if attn.residual_connection else out) / attn.rescale_output_factor

    def _of_image(self, attn, query: Tensor, tokens: Tensor) -> Tensor:
        tokens = tokens.to(self.key.weight.dtype)
        return _attention(attn, query, self.key(tokens).to(query.dtype), self.value(tokens).to(query.dtype))


def _attention(attn, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    q, k, v = (part.unflatten(-1, (attn.heads, -1)).transpose(1, 2) for part in (query, key, value))
    return functional.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
