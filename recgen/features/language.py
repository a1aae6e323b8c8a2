"""The run's language model: any causal language model that transformers loads, from an id, a folder or what is shipped."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from recgen.assets import asset_folder
from recgen.core.batching import Batcher
from recgen.core.compat import prepare_torchvision
from recgen.features.loading import loaded, pretrained

_CHARACTERS = 24_000
"""Of prompts continued at once, padding included: for a model of 7 billion parameters some gigabytes of keys and values."""


class LanguageModel:
    """A frozen causal language model, read when it is first used.

    Parameters
    ----------
    spec
        A shipped model's name such as ``"demo-llm"``, a folder, or an id that transformers can fetch.
    device
        Where it runs: float32 on the CPU, elsewhere in the type its weights are stored in.
    """

    def __init__(self, spec: str, device: str = "cpu") -> None:
        self.spec, self.device = spec, device
        self.batcher = Batcher()

    @property
    def name(self) -> str:
        """Its name in recipes and reports."""
        return self.spec

    @cached_property
    def tokenizer(self) -> Any:
        """Its tokenizer, padding on the left, as continuing a batch of texts asks for."""
        tokenizer = self._load(
            lambda transformers, folder: transformers.AutoTokenizer.from_pretrained(
                folder, trust_remote_code=False, padding_side="left"
            )
        )
        if (
            tokenizer.pad_token_id is None
        ):  # Llama's own has none; padding is masked, so which token it is does not matter
            tokenizer.pad_token = tokenizer.eos_token
        return tokenizer

    @cached_property
    def model(self) -> Any:
        """The transformers model: evaluation mode, without gradients."""
        import torch

        dtype = torch.float32 if self.device == "cpu" else "auto"
        model = self._load(
            lambda transformers, folder: pretrained(transformers.AutoModelForCausalLM, folder, dtype=dtype)
        )
        return model.to(self.device).eval().requires_grad_(False)

    def shared(self) -> Any:
        """Return the model without its head, as modules of one's own around the same weights, which stay frozen.

        Adapters can be put on them and trained, several at a time, while this model says what it always says.
        """
        base = self.model.base_model
        weights = [*base.parameters(), *base.buffers()]
        return copy.deepcopy(base, {id(weight): weight for weight in weights})

    @property
    def width(self) -> int:
        """Size of its hidden states."""
        return int(self.model.get_input_embeddings().embedding_dim)

    def complete(self, prompts: Sequence[str], max_new_tokens: int) -> list[str]:
        """Return what the model writes after each prompt: the likeliest token each time, up to its end token.

        A chat model gets each prompt as its user's turn. What follows one prompt does not depend on the others: padding is
        masked.
        """
        written = [""] * len(prompts)

        def work(rows: Sequence[int]) -> list[tuple[int, str]]:
            texts = self._continue([prompts[row] for row in rows], max_new_tokens)
            return list(zip(rows, texts, strict=True))

        for rows in _batches([len(prompt) for prompt in prompts]):
            for found in self.batcher.map("writing", rows, len(rows), work):
                for row, text in found:
                    written[row] = text
        return written

    def _continue(self, prompts: list[str], max_new_tokens: int) -> list[str]:
        import torch

        inputs = self._tokens(prompts).to(self.device)
        with torch.inference_mode():
            tokens = self.model.generate(
                input_ids=inputs.input_ids, attention_mask=inputs.attention_mask, max_new_tokens=max_new_tokens,
                do_sample=False, num_beams=1, pad_token_id=self.tokenizer.pad_token_id,
            )  # fmt: skip
        new = tokens[:, inputs.input_ids.shape[1] :]
        return [text.strip() for text in self.tokenizer.batch_decode(new, skip_special_tokens=True)]

    def _tokens(self, prompts: list[str]) -> Any:
        if self.tokenizer.chat_template is None:
            return self.tokenizer(prompts, padding=True, return_tensors="pt")
        turns = [[{"role": "user", "content": prompt}] for prompt in prompts]
        return self.tokenizer.apply_chat_template(
            turns, add_generation_prompt=True, padding=True, return_tensors="pt", return_dict=True
        )

    def _load(self, load: Callable[[Any, Path], Any]) -> Any:
        """Return what `load` makes of transformers and the model's folder, or say that the model cannot be had."""
        prepare_torchvision()
        import transformers

        return loaded(
            lambda: load(transformers, asset_folder(self.spec)),
            "recgen.llm",
            repr(self.spec),
            "demo-llm, or the folder or id of a causal language model that is here or can be downloaded",
            "Fetch it once on a machine with a network, or set recgen.llm to its folder or to demo-llm.",
        )


def _batches(lengths: Sequence[int]) -> Iterator[list[int]]:
    """Yield row numbers, short rows first, as many together as `_CHARACTERS` allow when all are as long as the longest."""
    batch: list[int] = []
    for row in sorted(range(len(lengths)), key=lengths.__getitem__):
        if batch and (len(batch) + 1) * lengths[row] > _CHARACTERS:
            yield batch
            batch = []
        batch.append(row)
    if batch:
        yield batch


def recompute_layers(model: Any) -> None:
    """Make a transformers model compute its layers' activations again in the backward pass, where gradients are asked for.

    transformers' own switch works in training mode only, in which a model's dropout would be on too.
    """
    import torch
    from torch.utils.checkpoint import checkpoint
    from transformers.modeling_layers import GradientCheckpointingLayer

    def wrapped(forward: Callable[..., Any]) -> Callable[..., Any]:
        def call(*given: Any, **named: Any) -> Any:
            if not torch.is_grad_enabled():
                return forward(*given, **named)
            return checkpoint(forward, *given, use_reentrant=False, **named)

        return call

    for layer in model.modules():
        if isinstance(layer, GradientCheckpointingLayer):
            layer.forward = wrapped(layer.forward)
