"""ip_adapter_mean: plain IP-Adapter on the mean of a history's image embeddings, with the item's text as prompt.

Nothing is learned, and in a public benchmark it beats PMG on likeness to the history (INTREBID/PMG-Bench), so no method may skip
it. ``prompt: none`` is that benchmark's form, an image for the user and not of the item; the default keeps the item's text, so
that it competes on equal terms with generators that must show the item.
"""

from __future__ import annotations

import numpy as np

from generators.common.prompted import Prompted
from generators.common.sampling import Drawing
from generators.ip_adapter_mean.settings import Settings
from recgen.data.types import Request, RunData
from recgen.diffusion.conditions import Condition


class IPAdapterMean(Prompted):
    """Draws the item's text beside the mean image embedding of what the user liked.

    The mean is over raw embeddings of the history's items that have an image. Where none has one, the image is drawn from the
    item's text alone, under either setting of `prompt`, and its recipe says ``history_images: 0``.
    """

    name = "ip_adapter_mean"
    Config = Settings
    config: Settings

    def drawing(self, request: Request, data: RunData) -> Drawing:
        """Return the history's mean embedding and, as asked, the item's text."""
        rows = [data.item_rows[token] for token in request.history]
        liked = data.image_features[[row for row in rows if data.images[row] is not None]]
        image = liked.mean(axis=0, dtype=np.float64).astype(np.float32) if len(liked) else None
        prompt = self.prompt(request, data) if self.config.prompt == "text" or image is None else ""
        recipe = {"prompt": prompt, "history_images": len(liked)}
        return Condition(request.seed, prompt, self.config.negative_prompt, image), recipe
