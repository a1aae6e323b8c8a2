"""REBECA's diffusion prior: a decoder-only transformer that predicts the noise on an image embedding (section 3.2).

The sequence is [user tokens, rating, time, image tokens] under a causal mask, so the user's tokens see nothing else, and none but
the image tokens sees the noisy embedding. `Prior` uses that: it reads every distinct user, (user, rating) and (user, rating,
time) once, and computes only the image tokens for every embedding.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

DISLIKE, LIKE, NO_RATING = 0, 1, 2


class Context(NamedTuple):
    """Keys and values of the tokens read so far: one float ``[C, heads, tokens, width / heads]`` per layer each."""

    keys: list[Tensor]
    values: list[Tensor]

    def take(self, rows: Tensor) -> Context:
        """Return the context with its conditions gathered by `rows` (int64 ``[B]``)."""
        return Context([k[rows] for k in self.keys], [v[rows] for v in self.values])


class Block(nn.Module):
    """A pre-norm transformer block: causal self-attention and a feed-forward layer, both residual."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.query, self.key_value = nn.Linear(width, width), nn.Linear(width, 2 * width)
        self.project = nn.Linear(width, width)
        self.expand, self.contract = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def _split(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (self.heads, -1)).transpose(1, 2)

    def keys_values(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return the keys and values of tokens `x` (float ``[B, L, width]``), each ``[B, heads, L, width / heads]``."""
        keys, values = self.key_value(self.norm1(x)).chunk(2, dim=-1)
        return self._split(keys), self._split(values)

    def forward(self, x: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        """Return the block's output ``[B, L, width]`` for tokens `x` as large, the last that `keys` and `values` cover."""
        queries, total = x.shape[1], keys.shape[2]
        mask = None
        if queries > 1:
            mask = torch.ones(queries, total, dtype=torch.bool, device=x.device).tril(total - queries)
        attended = functional.scaled_dot_product_attention(
            self._split(self.query(self.norm1(x))), keys, values, attn_mask=mask
        )
        x = x + self.project(attended.transpose(1, 2).flatten(-2))
        return x + self.contract(functional.gelu(self.expand(self.norm2(x))))


class Prior(nn.Module):
    """epsilon_theta(U, R, t, I_e^t) of section 3.2.

    Parameters
    ----------
    users
        Number of users with a token of their own; index `users` is the absent user.
    dim
        Width D of the image embeddings.
    width, layers, heads
        Shape of the transformer.
    user_tokens, image_tokens
        Tokens that represent the user and the noisy embedding.
    """

    def __init__(
        self, users: int, dim: int, width: int, layers: int, heads: int, user_tokens: int, image_tokens: int
    ) -> None:
        super().__init__()
        self.shape = {
            "users": users, "dim": dim, "width": width, "layers": layers, "heads": heads,
            "user_tokens": user_tokens, "image_tokens": image_tokens,
        }  # fmt: skip
        self.no_user, self.width, self.user_tokens, self.image_tokens = (
            users,
            width,
            user_tokens,
            image_tokens,
        )
        self.user = nn.Embedding(users + 1, user_tokens * width)
        self.rating = nn.Embedding(3, width)
        self.time = nn.Sequential(nn.Linear(width, width), nn.SiLU(), nn.Linear(width, width))
        self.image = nn.Linear(dim, image_tokens * width)
        self.position = nn.Parameter(0.02 * torch.randn(user_tokens + 2 + image_tokens, width))
        self.blocks: Sequence[Block] = nn.ModuleList(Block(width, heads) for _ in range(layers))  # type: ignore[assignment]
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(image_tokens * width, dim)
        nn.init.zeros_(self.user.weight)
        nn.init.normal_(self.rating.weight, std=0.02)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)

    def forward(self, users: Tensor, ratings: Tensor, timesteps: Tensor, noisy: Tensor) -> Tensor:
        """Predict the noise: int64 ``[B]`` users, ratings and times, float ``[B, D]`` noisy embeddings to ``[B, D]``."""
        distinct, rows = torch.unique(
            torch.stack([users, ratings, timesteps], dim=1), dim=0, return_inverse=True
        )
        context = self.read_time(self.read_condition(distinct[:, 0], distinct[:, 1]), distinct[:, 2])
        return self.predict(context.take(rows), noisy)

    def read_condition(self, users: Tensor, ratings: Tensor) -> Context:
        """Read the user and rating tokens of C conditions (int64 ``[C]`` each)."""
        pairs, pair_rows = torch.unique(torch.stack([users, ratings], dim=1), dim=0, return_inverse=True)
        users, user_rows = torch.unique(pairs[:, 0], return_inverse=True)
        user = self.user(users).unflatten(-1, (self.user_tokens, self.width))
        context = self._read(user + self.position[: self.user_tokens], None).take(user_rows)
        rating = self.rating(pairs[:, 1])[:, None] + self.position[self.user_tokens]
        return self._read(rating, context).take(pair_rows)

    def read_time(self, context: Context, timesteps: Tensor) -> Context:
        """Add the time token (int64 ``[C]``, one step per condition) to `context`."""
        token = self.time(sinusoids(timesteps, self.width))[:, None]
        return self._read(token + self.position[self.user_tokens + 1], context)

    def predict(self, context: Context, noisy: Tensor) -> Tensor:
        """Return the noise (float ``[B, D]``) in `noisy` (float ``[B, D]``), each row under its own row of `context`."""
        x = (
            self.image(noisy).unflatten(-1, (self.image_tokens, self.width))
            + self.position[-self.image_tokens :]
        )
        for block, past_keys, past_values in zip(self.blocks, *context, strict=True):
            keys, values = block.keys_values(x)
            x = block(x, torch.cat([past_keys, keys], dim=2), torch.cat([past_values, values], dim=2))
        return self.head(self.norm(x).flatten(1))

    def _read(self, x: Tensor, past: Context | None) -> Context:
        """Run tokens `x` after `past`; the last block's output is nobody's input, so it only leaves keys and values."""
        context = Context([], [])
        for layer, block in enumerate(self.blocks):
            keys, values = block.keys_values(x)
            if past is not None:
                keys = torch.cat([past.keys[layer], keys], dim=2)
                values = torch.cat([past.values[layer], values], dim=2)
            context.keys.append(keys)
            context.values.append(values)
            if layer + 1 < len(self.blocks):
                x = block(x, keys, values)
        return context


def sinusoids(timesteps: Tensor, width: int) -> Tensor:
    """Encode diffusion steps (int64 ``[B]``) as sines and cosines, float32 ``[B, width]`` (Ho et al. 2020)."""
    rates = torch.exp(torch.arange(0, width, 2, device=timesteps.device) * (-math.log(10_000.0) / width))
    angles = timesteps[:, None].float() * rates
    return torch.cat([angles.sin(), angles.cos()], dim=1)[:, :width]
