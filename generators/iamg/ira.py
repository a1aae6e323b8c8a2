"""Interest retrieve attention (section 4.2): what lies near the rewritten text and the image, fused to one interest."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional

from recgen.core.errors import UserError


class InterestRetrieveAttention(nn.Module):
    """Two attentions (eqs. 10 and 11) that share Wq, Wk and Wv.

    The projections start as identities: text and image tokens lie in one space already (section 4.2), so that the interest
    starts as a mean of the retrieved images' tokens, weighed by how they go with the text, and not as noise.

    Parameters
    ----------
    width
        Size of text and image tokens, d: the width of the text condition.
    heads
        A divisor of it; each head's logits are divided by the root of its own width.

    Raises
    ------
    UserError
        If `heads` does not divide `width`.
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        if width % heads:
            raise UserError(
                "recgen.iamg.heads",
                found=str(heads),
                expected=f"a divisor of {width}, the text condition's width",
            )
        self.heads = heads
        self.query, self.key, self.value = (nn.Linear(width, width, bias=False) for _ in range(3))
        for projection in (self.query, self.key, self.value):
            nn.init.eye_(projection.weight)

    def forward(self, rewritten: Tensor, texts: Tensor, images: Tensor) -> Tensor:
        """Return the interest embedding.

        Parameters
        ----------
        rewritten
            z*_text, the tokens of T*, ``[B, T, d]``.
        texts
            Phi, one embedding for each retrieved text, ``[B, K, d]``.
        images
            Psi after the IP-Adapter's projection, ``[B, K * n, d]``.

        Returns
        -------
        Tensor
            z~, ``[B, T, d]``: a token for each of T*'s.
        """
        fused = self._attend(rewritten, texts)  # eq. 10
        return self._attend(fused, images)  # eq. 11

    def _attend(self, queries: Tensor, context: Tensor) -> Tensor:
        """Return softmax(Q K^T / sqrt(d)) V by heads."""
        q, k, v = (
            self._split(self.query(queries)),
            self._split(self.key(context)),
            self._split(self.value(context)),
        )
        return functional.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)

    def _split(self, tokens: Tensor) -> Tensor:
        return tokens.unflatten(-1, (self.heads, -1)).transpose(1, 2)
