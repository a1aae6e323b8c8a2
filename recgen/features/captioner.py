"""Image-to-text models: a caption of each image, or what such a model answers to a question about it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from recgen.assets import asset_folder
from recgen.core.batching import Batcher
from recgen.core.compat import prepare_torchvision
from recgen.data.images import read_image
from recgen.features.loading import loaded, pretrained

_BATCH = 16
_LONGEST = 40  # tokens of a caption
_ANSWER = 64  # tokens of an answer to a question
_QUESTIONS = {"blip-2": "Question: {} Answer:"}
"""How models whose processor has no chat template are asked, by type: as BLIP-2's card and paper do."""


class Captioner:
    """An image-to-text model of transformers, such as BLIP-2 or, asked a question, LLaVA.

    Parameters
    ----------
    spec
        Its folder, or an id that transformers can fetch.
    device
        Where it runs: float32 on the CPU, elsewhere in the type its weights are stored in.
    key
        Where `spec` was read from, for messages.

    Raises
    ------
    UserError
        When it cannot be had or is no image-to-text model.
    """

    def __init__(self, spec: str, device: str = "cpu", key: str = "recgen.captioner") -> None:
        prepare_torchvision()
        import torch
        from transformers import AutoModelForImageTextToText, AutoProcessor

        dtype: Any = torch.float32 if device == "cpu" else "auto"
        folder = asset_folder(spec)

        def load() -> tuple[Any, Any]:
            processor = AutoProcessor.from_pretrained(folder, trust_remote_code=False)
            return processor, pretrained(AutoModelForImageTextToText, folder, dtype=dtype)

        self.processor, model = loaded(
            load,
            key,
            repr(spec),
            "clip-tagger, {tagger: FILE}, or an image-to-text model that is here or can be downloaded",
            f"Fetch it once on a machine with a network, or set {key} to its folder or to clip-tagger.",
        )
        self.model = model.to(device).eval().requires_grad_(False)
        self.device = device
        self.batcher = Batcher()

    def describe(self, paths: Sequence[Path], question: str | None = None) -> list[str]:
        """Return one caption per image file, the likeliest words, or what the model answers to a question about it."""

        def work(some: Sequence[Path]) -> list[str]:
            return self._answers([read_image(path) for path in some], question)

        blocks = self.batcher.map("looking at images", paths, _BATCH, work)
        return [answer for block in blocks for answer in block]

    def _answers(self, images: Sequence[Image.Image], question: str | None) -> list[str]:
        import torch

        inputs = self._inputs(images, question).to(self.device, self.model.dtype)
        longest = _LONGEST if question is None else _ANSWER
        with torch.inference_mode():
            tokens = self.model.generate(**inputs, max_new_tokens=longest, do_sample=False, num_beams=1)
        if question is not None and not self.model.config.is_encoder_decoder and "input_ids" in inputs:
            tokens = tokens[:, inputs["input_ids"].shape[1] :]  # such a model repeats the question first
        return [
            " ".join(text.split()) for text in self.processor.batch_decode(tokens, skip_special_tokens=True)
        ]

    def _inputs(self, images: Sequence[Image.Image], question: str | None) -> Any:
        """Return the processor's tensors; a chat model gets image and question as its user's turn."""
        if question is None:
            return self.processor(images=list(images), return_tensors="pt")
        if getattr(self.processor, "chat_template", None) is None:
            asked = _QUESTIONS.get(self.model.config.model_type, "{}").format(question)
            return self.processor(images=list(images), text=[asked] * len(images), return_tensors="pt")
        turn = [{"type": "image"}, {"type": "text", "text": question}]
        prompt = self.processor.apply_chat_template(
            [{"role": "user", "content": turn}], add_generation_prompt=True
        )
        return self.processor(images=list(images), text=[prompt] * len(images), return_tensors="pt")
