"""General preference (section 4.4, eqs. 6-9): the user's keywords through a language model into condition tokens.

PMG (Shen et al., WWW 2024) reads users the same way, and uses this module too.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields

import torch
from torch import Tensor, nn

from generators.common.settings import LearningConfig
from recgen.core.compat import prepare_torchvision
from recgen.core.seeding import seed_for
from recgen.features.language import LanguageModel, recompute_layers
from recgen.features.prompts import preference_prompt

prepare_torchvision()
import peft  # noqa: E402

PROMPT_TOKENS = 96
"""Length to which p_g is cut or padded: one length for all, so that a user's condition does not follow from their batch."""


@dataclass(frozen=True)
class Shape:
    """Sizes of an extractor; see `generators.ragar.settings.Settings` for what each is."""

    condition_width: int
    image_tokens: int
    lora_rank: int
    mapper_layers: int
    mapper_width: int
    mapper_queries: int
    heads: int

    @classmethod
    def of(cls, settings: LearningConfig, condition_width: int) -> Shape:
        """Return the sizes that settings ask for, over a backbone of that width."""
        own = {field.name for field in fields(cls)} - {"condition_width"}
        return cls(condition_width, **settings.model_dump(include=own))


@dataclass(frozen=True, eq=False)
class Preference:
    """What the extractor makes of a batch of users.

    Attributes
    ----------
    tokens
        ``[B, T + Q + K, width]``, P_gen of eq. 9: Attn(E_m, E_key, E_key), then E_key. Zero where p_g is padded.
    multimodal
        ``[B, T + Q, width]``, E_m of eq. 8: E_txt, then what the mapper makes of E_img.
    mask
        bool ``[B, T + Q]``, which tokens of E_m are not padding.
    """

    tokens: Tensor
    multimodal: Tensor
    mask: Tensor

    def pooled(self) -> Tensor:
        """P_gen averaged over its tokens ``[B, width]``, for the losses."""
        whole = nn.functional.pad(self.mask, (0, self.tokens.shape[1] - self.mask.shape[1]), value=True)
        return _mean(self.tokens, whole)

    def pooled_multimodal(self) -> Tensor:
        """E_m averaged over its tokens ``[B, width]``, for the semantic loss."""
        return _mean(self.multimodal, self.mask)


def _mean(tokens: Tensor, mask: Tensor) -> Tensor:
    weights = mask.to(tokens.dtype)[..., None]
    return (tokens * weights).sum(1) / weights.sum(1)


class ModalMapper(nn.Module):
    """Aligns E_img with the image side: a linear layer, an encoder-decoder transformer with trainable queries, a linear layer.

    ``[B, L, d_llm]`` to ``[B, Q, condition_width]`` (eq. 8; the form is GILL's, Koh et al., NeurIPS 2023).
    """

    def __init__(self, width_in: int, shape: Shape) -> None:
        super().__init__()
        width = shape.mapper_width
        self.into = nn.Linear(width_in, width)
        self.queries = nn.Parameter(torch.randn(1, shape.mapper_queries, width))
        self.transformer = nn.Transformer(
            width,
            shape.heads,
            shape.mapper_layers,
            shape.mapper_layers,
            4 * width,
            dropout=0.0,
            batch_first=True,
        )
        self.out = nn.Linear(width, shape.condition_width)

    def forward(self, image_states: Tensor) -> Tensor:
        """Map the language model's states at the [IMG] tokens."""
        queries = self.queries.expand(len(image_states), -1, -1)
        return self.out(self.transformer(self.into(image_states), queries))


class PreferenceExtractor(nn.Module):
    """LLM_g with L new [IMG] tokens and LoRA, the modal mapper and the fusing attention: the parts that train (eqs. 7-9).

    Parameters
    ----------
    language_model
        The run's, which stays as it is: the LoRA is on modules of our own around its weights, which are frozen and not copied.
    shape
        Sizes.
    run_seed
        Seed of the new weights.
    recompute
        Whether the language model's activations are computed again in the backward pass instead of kept.
    """

    def __init__(
        self, language_model: LanguageModel, shape: Shape, run_seed: int, recompute: bool = False
    ) -> None:
        super().__init__()
        self.shape, self.tokenizer = shape, language_model.tokenizer
        decoder = language_model.shared()
        width = int(decoder.config.hidden_size)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed_for(run_seed, "preference extractor") % 2**63)
            lora = peft.LoraConfig(r=shape.lora_rank, lora_alpha=2 * shape.lora_rank)
            self.decoder = peft.get_peft_model(
                decoder, lora
            )  # its weights are float32 whatever the model's type
            if recompute:
                recompute_layers(self.decoder)
            typical = decoder.get_input_embeddings().weight.float().std().item()
            self.image_tokens = nn.Parameter(typical * torch.randn(1, shape.image_tokens, width))
            self.text_out = nn.Linear(width, shape.condition_width)
            self.mapper = ModalMapper(width, shape)
            self.fusion = nn.MultiheadAttention(shape.condition_width, shape.heads, batch_first=True)
        self.to(next(decoder.parameters()).device)

    def prompt(self, keywords: Sequence[str], text: str = "") -> str:
        """Return p_g, of at most `PROMPT_TOKENS` tokens: the item's text is cut to half of them, then the last keywords go."""
        text = _prefix(text, lambda part: self._count(part) <= PROMPT_TOKENS // 2)
        for kept in range(len(keywords), 0, -1):
            prompt = preference_prompt(keywords[:kept], text)
            if self._count(prompt) <= PROMPT_TOKENS:
                return prompt
        return preference_prompt((), text)

    def _count(self, prompt: str) -> int:
        return len(self.tokenizer(prompt).input_ids)

    def tokenize(self, prompts: Sequence[str]) -> tuple[Tensor, Tensor]:
        """Return token ids and mask ``[B, PROMPT_TOKENS]`` of p_g, padded at the left so that [IMG] follows the words.

        Of a prompt that `prompt` did not make and that is too long, the last tokens are cut off.
        """
        rows = [self.tokenizer(prompt).input_ids[:PROMPT_TOKENS] for prompt in prompts]
        ids = torch.zeros(len(rows), PROMPT_TOKENS, dtype=torch.long)
        mask = torch.zeros(len(rows), PROMPT_TOKENS, dtype=torch.bool)
        for i, row in enumerate(rows):
            ids[i, PROMPT_TOKENS - len(row) :] = torch.tensor(row)
            mask[i, PROMPT_TOKENS - len(row) :] = True
        return ids.to(self.image_tokens.device), mask.to(self.image_tokens.device)

    def forward(self, prompts: Sequence[str], keyword_features: Tensor) -> Preference:
        """Read users.

        Parameters
        ----------
        prompts
            p_g of each, as `prompt` makes it.
        keyword_features
            E_key ``[B, K, condition_width]``: the backbone's text encoder on the item's text and the keywords.
        """
        ids, mask = self.tokenize(prompts)
        words = self.decoder.get_input_embeddings()(ids)
        image_tokens = self.image_tokens.expand(len(ids), -1, -1).to(words.dtype)
        seen = nn.functional.pad(mask, (0, self.shape.image_tokens), value=True)
        states = self.decoder(
            inputs_embeds=torch.cat([words, image_tokens], 1),
            attention_mask=seen.long(),
            position_ids=(seen.long().cumsum(1) - 1).clamp(min=0),
            use_cache=False,
        ).last_hidden_state.to(keyword_features.dtype)  # eq. 7
        text = self.text_out(states[:, : ids.shape[1]]).masked_fill(~mask[..., None], 0.0)
        image = self.mapper(states[:, ids.shape[1] :])
        multimodal = torch.cat([text, image], 1)  # eq. 8
        mask = nn.functional.pad(mask, (0, image.shape[1]), value=True)
        fused = self.fusion(multimodal, keyword_features, keyword_features, need_weights=False)[0]
        tokens = torch.cat([fused.masked_fill(~mask[..., None], 0.0), keyword_features], 1)  # eq. 9
        return Preference(tokens, multimodal, mask)


def _prefix(text: str, fits: Callable[[str], bool]) -> str:
    """Return the longest beginning of a text that fits, to the character: not every language has spaces between words."""
    if fits(text):
        return text
    low, high = 0, len(text)
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if fits(text[:middle]) else (low, middle - 1)
    return text[:low].rstrip()
