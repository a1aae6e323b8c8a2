"""Train the demo OpenCLIP model: contrastive on (image, sentence), with a small attribute loss on the image tower.

The attribute loss (linear heads on the image embedding for attributes and factors, thrown away afterwards) makes the embedding
hold every one linearly, which 20,000 images and a contrastive loss alone need far longer for.
"""

from __future__ import annotations

import json
import shutil
import sys
import time
from pathlib import Path

import numpy as np
import torch
from corpus import Corpus
from safetensors.torch import load_file, save_file
from torch import nn
from torch.nn import functional as F
from train_tokenizer import CONTEXT

from recgen.core.compat import prepare_torchvision
from recgen.data.simulation.attributes import SIZES
from recgen.data.simulation.factors import FACTORS

prepare_torchvision()
import open_clip  # noqa: E402

WEIGHTS = "open_clip_model.safetensors"
MODEL = {
    "embed_dim": 64,
    "vision_cfg": {"image_size": 64, "layers": [1, 1, 1, 1], "width": 16, "head_width": 64},
    "text_cfg": {"context_length": CONTEXT, "vocab_size": 0, "width": 128, "heads": 4, "layers": 2},
}
NORMALISE = {
    "mean": [0.5, 0.5, 0.5],
    "std": [0.5, 0.5, 0.5],
    "interpolation": "bicubic",
    "resize_mode": "squash",
}


def folder_config(vocabulary: int) -> dict:
    """Return the model folder's open_clip_config.json."""
    config = json.loads(json.dumps(MODEL))
    config["text_cfg"]["vocab_size"] = vocabulary
    return config


def main(out: Path, tokenizer_folder: Path, seconds: float, resume: bool = False) -> None:
    from transformers import CLIPTokenizer

    torch.manual_seed(0)
    tokenizer = CLIPTokenizer.from_pretrained(tokenizer_folder)
    config = folder_config(len(tokenizer))
    model = open_clip.CLIP(**config)
    if resume:
        model.load_state_dict(
            {k: v.float() if v.is_floating_point() else v for k, v in load_file(out / WEIGHTS).items()}
        )
    model.visual.to(memory_format=torch.channels_last)
    heads = nn.ModuleList(nn.Linear(64, size) for size in (*SIZES, len(FACTORS)))
    corpus = Corpus(20_000, seed=1, varied=0.75)
    factors = torch.from_numpy(corpus.factors)
    parameters = [*model.parameters(), *heads.parameters()]
    optimiser = torch.optim.AdamW(parameters, lr=1e-3, weight_decay=0.05, betas=(0.9, 0.98))
    most = 8e-4 if resume else 1e-3
    rng, start, step = np.random.default_rng(0), time.time(), 0
    while (spent := time.time() - start) < seconds:
        for group in optimiser.param_groups:
            group["lr"] = most * min(1, step / 100) * max(0.02, 1 - spent / seconds)
        rows = rng.integers(len(corpus.images), size=128)
        images = augment(torch.from_numpy(corpus.images[rows]), rng)
        tokens = tokenizer(
            corpus.texts(rows, rng),
            padding="max_length",
            truncation=True,
            max_length=CONTEXT,
            return_tensors="pt",
        ).input_ids
        loss, attribute_loss, factor_loss = losses(
            model, heads, images, tokens, torch.from_numpy(corpus.codes[rows]), factors[rows]
        )
        optimiser.zero_grad()
        (loss + 2 * attribute_loss + 12 * factor_loss).backward()
        optimiser.step()
        with torch.no_grad():
            model.logit_scale.clamp_(0, 4.6)
        if step % 50 == 0:
            print(
                f"step {step} {spent:.0f}s contrastive {loss.item():.3f} attributes {attribute_loss.item():.3f} "
                f"factors {factor_loss.item():.3f}",
                flush=True,
            )
        step += 1
    save(model.eval(), config, out, tokenizer_folder)


def augment(images: torch.Tensor, rng: np.random.Generator) -> torch.Tensor:
    """uint8 ``[B, 64, 64, 3]`` to the tower's input, blurred and noised at random as generated images are."""
    x = images.permute(0, 3, 1, 2).float() / 127.5 - 1
    if rng.random() < 0.4:
        small = int(rng.integers(28, 60))
        x = F.interpolate(F.interpolate(x, small, mode="bilinear", antialias=True), 64, mode="bilinear")
    return x + torch.randn(x.shape) * float(rng.uniform(0, 0.08))


def losses(
    model: nn.Module,
    heads: nn.ModuleList,
    images: torch.Tensor,
    tokens: torch.Tensor,
    codes: torch.Tensor,
    factors: torch.Tensor,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return the symmetric contrastive loss, the attribute heads' mean cross-entropy and the factor head's mean square."""
    image, text = model.encode_image(images), F.normalize(model.encode_text(tokens), dim=-1)
    unit = F.normalize(image, dim=-1)
    logits = model.logit_scale.exp() * unit @ text.T
    target = torch.arange(len(logits))
    contrastive = (F.cross_entropy(logits, target) + F.cross_entropy(logits.T, target)) / 2
    *words, degrees = [head(unit * 8) for head in heads]
    attributes = sum(F.cross_entropy(word, codes[:, i]) for i, word in enumerate(words)) / len(words)
    return contrastive, attributes, F.mse_loss(degrees, factors)


def save(model: nn.Module, config: dict, out: Path, tokenizer_folder: Path) -> None:
    """Write the folder that `open_clip.create_model_and_transforms("local-dir:...")` reads."""
    out.mkdir(parents=True, exist_ok=True)
    for name in ("vocab.json", "merges.txt", "tokenizer.json", "tokenizer_config.json"):
        shutil.copy(tokenizer_folder / name, out / name)
    config["text_cfg"]["hf_tokenizer_name"] = "."
    (out / "open_clip_config.json").write_text(
        json.dumps({"model_cfg": config, "preprocess_cfg": NORMALISE}, indent=1)
    )
    state = {k: v.half() if v.is_floating_point() else v for k, v in model.state_dict().items()}
    save_file({k: v.contiguous() for k, v in state.items()}, out / WEIGHTS)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), float(sys.argv[3]), resume="--resume" in sys.argv)
