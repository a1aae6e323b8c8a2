"""Train the demo Stable-Diffusion pipeline (text encoder, UNet) and its IP-Adapter, together; on a GPU where there is one.

Without one, torchrun shares a batch between cores.

Each step trains one of two modes: text only (the adapter off, as when the pipeline is used without one), or through the
adapter. Text only draws pictures without factors of their own, in half of the cases films under made-up titles. With the
adapter, the image embedding is the image's own, or the mean over images of the same style and factors but other content, with
the content named in the prompt, or the mean over images that share nothing but factors, with all else in the prompt: so text can
decide what is shown and an image how it looks, in degrees too.
"""

from __future__ import annotations

import argparse
import copy
import os
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from corpus import SAME_STYLE, Corpus, title
from safetensors.torch import load_file, save_file
from torch import distributed
from torch.nn import functional as F
from torch.utils.data import DataLoader, IterableDataset
from train_tokenizer import CONTEXT
from train_vae import as_input

from recgen.core.compat import prepare_torchvision
from recgen.core.device import allow_fast_matmul, choose_device
from recgen.core.machine import cores
from recgen.data.simulation.attributes import caption

prepare_torchvision()
import open_clip  # noqa: E402
from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel  # noqa: E402
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer  # noqa: E402

IMAGE_TOKENS = 4
WIDTH = 128
DEVICE = choose_device(use_gpu=True)
ADAPTER_FILE = "ip-adapter.safetensors"
BETA_END = 0.02
"""More noise at the end than Stable Diffusion's 0.012, under which the mean of 256 latent values stays visible.

With that, or with the noise as what is predicted (the loss then hardly sees a wrong mean), the model reads the ground off the
noise it starts from: after 1,500 and 2,300 steps one ground in six was the one asked for. So the velocity is predicted,
as in Stable Diffusion 2.
"""


def new_unet() -> UNet2DConditionModel:
    """A UNet of the Stable-Diffusion kind for 16 x 16 latents, 4.7 M parameters.

    It attends at 8 x 8 and 4 x 4 only: attention at 16 x 16 doubled the time of a step.
    """
    return UNet2DConditionModel(
        sample_size=16, in_channels=4, out_channels=4, layers_per_block=1, cross_attention_dim=WIDTH,
        block_out_channels=(64, 96, 128), norm_num_groups=16, attention_head_dim=4,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
    )  # fmt: skip


def new_text_encoder(tokenizer: CLIPTokenizer) -> CLIPTextModel:
    """A CLIP text model of two layers."""
    return CLIPTextModel(CLIPTextConfig(
        vocab_size=len(tokenizer), hidden_size=WIDTH, intermediate_size=4 * WIDTH, num_hidden_layers=2,
        num_attention_heads=4, max_position_embeddings=CONTEXT, bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id, projection_dim=64,
    ))  # fmt: skip


def new_adapter(unet: UNet2DConditionModel, embedding: int) -> dict[str, dict[str, torch.Tensor]]:
    """Return a fresh IP-Adapter state for `unet`, in the layout of ip-adapter_sd15."""
    torch.manual_seed(1)
    state: dict[str, dict[str, torch.Tensor]] = {"image_proj": {}, "ip_adapter": {}}
    state["image_proj"]["proj.weight"] = torch.randn(IMAGE_TOKENS * WIDTH, embedding) / embedding**0.5
    state["image_proj"]["proj.bias"] = torch.zeros(IMAGE_TOKENS * WIDTH)
    state["image_proj"]["norm.weight"], state["image_proj"]["norm.bias"] = (
        torch.ones(WIDTH),
        torch.zeros(WIDTH),
    )
    for key, (name, size) in enumerate(cross_attentions(unet)):
        if name:
            for part in ("to_k_ip", "to_v_ip"):
                state["ip_adapter"][f"{key}.{part}.weight"] = torch.randn(size, WIDTH) / WIDTH**0.5
    return state


def cross_attentions(unet: UNet2DConditionModel) -> list[tuple[str, int]]:
    """One entry per attention processor, in diffusers' order: (name, inner size), the name empty for self-attention."""
    rows = []
    for name in unet.attn_processors:
        module = unet.get_submodule(name.removesuffix(".processor"))
        rows.append(("" if "attn1" in name else name, module.to_q.out_features))
    return rows


def adapter_state(unet: UNet2DConditionModel) -> dict[str, torch.Tensor]:
    """Read the trained adapter back out of the UNet, flat, in the layout of ip-adapter_sd15.safetensors."""
    projection = unet.encoder_hid_proj.image_projection_layers[0]
    state = {
        "image_proj.proj.weight": projection.image_embeds.weight, "image_proj.proj.bias": projection.image_embeds.bias,
        "image_proj.norm.weight": projection.norm.weight, "image_proj.norm.bias": projection.norm.bias,
    }  # fmt: skip
    key = 1  # odd numbers, one per cross-attention: the numbering diffusers reads
    for name, processor in unet.attn_processors.items():
        if "attn2" in name:
            state[f"ip_adapter.{key}.to_k_ip.weight"] = processor.to_k_ip[0].weight
            state[f"ip_adapter.{key}.to_v_ip.weight"] = processor.to_v_ip[0].weight
            key += 2
    return {name: tensor.detach().half().contiguous() for name, tensor in state.items()}


def read_adapter(path: Path) -> dict[str, dict[str, torch.Tensor]]:
    """Read `adapter_state` back in the nested layout that the UNet loads."""
    state: dict[str, dict[str, torch.Tensor]] = {"image_proj": {}, "ip_adapter": {}}
    for name, tensor in load_file(path).items():
        part, key = name.split(".", 1)
        state[part][key] = tensor.float()
    return state


def set_adapter_scale(unet: UNet2DConditionModel, scale: float) -> None:
    for name, processor in unet.attn_processors.items():
        if "attn2" in name:
            processor.scale = [scale]


class Examples:
    """Latents, CLIP embeddings and sentences of the corpus."""

    def __init__(self, corpus: Corpus, vae: AutoencoderKL, clip: torch.nn.Module) -> None:
        self.corpus, latents, embeddings = corpus, [], []
        with torch.no_grad():
            for i in range(0, len(corpus.images), 200):
                x = as_input(corpus.images[i : i + 200]).to(DEVICE)
                latents.append((vae.encode(x).latent_dist.mean * vae.config.scaling_factor).cpu())
                embeddings.append(clip.encode_image(x).cpu())
        self.latents, self.embeddings = torch.cat(latents), torch.cat(embeddings)
        corpus.images = corpus.images[:0]  # not needed any more
        self.text_rows = np.flatnonzero(corpus.plain)
        self.films = np.array([row for row, film in enumerate(corpus.films) if film])
        self.mates = _alike(
            corpus,
            [
                (group, *look[1:])
                for group, look in zip(corpus.groups.tolist(), corpus.codes.tolist(), strict=True)
            ],
        )
        self.companions = _alike(corpus, corpus.groups.tolist())

    def rows_for(self, mode: str, count: int, rng: np.random.Generator) -> np.ndarray:
        """Draw a batch: half films, half any picture without factors of its own; with the adapter, any picture."""
        if mode == "image":
            return rng.integers(len(self.latents), size=count)
        films = rng.choice(self.films, count // 2)
        return np.concatenate([films, rng.choice(self.text_rows, count - len(films))])

    def mean_of(self, rows: np.ndarray, rng: np.random.Generator) -> torch.Tensor:
        """Mean embedding of up to eight of these images."""
        return self.embeddings[rng.choice(rows, size=int(rng.integers(1, 9)))].mean(0)

    def content_prompt(self, row: int, rng: np.random.Generator) -> str:
        """A sentence that names the row's content and not its style."""
        motif, film = self.corpus.attributes[row].words[0], self.corpus.films[row]
        if film and rng.random() < 0.5:
            return film.text(rng)
        return str(
            rng.choice([f"a {motif}", f"{title(rng)}. a {motif}", f"a poster of a {motif}", f"{motif}"])
        )

    def with_text(self, rows: np.ndarray, rng: np.random.Generator) -> list[str]:
        """Prompts for the text mode: a tenth of them empty."""
        return ["" if rng.random() < 0.1 else text for text in self.corpus.texts(rows, rng)]

    def with_adapter(self, rows: np.ndarray, rng: np.random.Generator) -> tuple[list[str], torch.Tensor]:
        """Prompts and image embeddings for the adapter mode."""
        prompts, embeddings = [], []
        texts = self.corpus.texts(rows, rng)
        for row, text in zip(rows, texts, strict=True):
            kind = rng.random()
            own = self.embeddings[row]
            group = self.corpus.groups[row]
            mates = self.mates[group, *self.corpus.codes[row, 1:].tolist()]
            if kind < 0.08:
                prompts.append(""), embeddings.append(torch.zeros_like(own))
            elif kind < 0.42:
                prompts.append(""), embeddings.append(own)
            elif kind < 0.85 and group >= 0 and (len(mates) < SAME_STYLE or kind < 0.6):
                full = caption(self.corpus.attributes[row]) if rng.random() < 0.7 else text
                prompts.append(full), embeddings.append(self.mean_of(self.companions[group], rng))
            elif kind < 0.85:
                prompts.append(self.content_prompt(row, rng)), embeddings.append(self.mean_of(mates, rng))
            else:
                prompts.append(text), embeddings.append(own)
        return prompts, torch.stack(embeddings)


def _alike(corpus: Corpus, keys: list[Any]) -> dict[Any, np.ndarray]:
    """Return the rows of each key."""
    found: dict[Any, list[int]] = {}
    for row, key in enumerate(keys):
        found.setdefault(key, []).append(row)
    return {key: np.array(rows) for key, rows in found.items()}


class Batch(NamedTuple):
    """A step's pictures by row, what is asked for in tokens ``[B, L]`` and, through the adapter, embeddings ``[B, D]``."""

    rows: torch.Tensor
    tokens: torch.Tensor
    embeddings: torch.Tensor | None


class Batches(IterableDataset):
    """Batches without end; every process that draws some draws others."""

    def __init__(self, examples: Examples, tokenizer: CLIPTokenizer, size: int, seed: int) -> None:
        self.examples, self.tokenizer, self.size, self.seed = examples, tokenizer, size, seed

    def __iter__(self) -> Iterator[Batch]:
        worker = torch.utils.data.get_worker_info()
        rng = np.random.default_rng([self.seed, worker.id if worker else 0])
        while True:
            mode = "text" if rng.random() < 0.42 else "image"
            rows = self.examples.rows_for(mode, self.size, rng)
            prompts, embeddings = (
                (self.examples.with_text(rows, rng), None)
                if mode == "text"
                else self.examples.with_adapter(rows, rng)
            )
            tokens = self.tokenizer(prompts, padding="max_length", truncation=True, return_tensors="pt")
            yield Batch(torch.from_numpy(rows), tokens.input_ids, embeddings)


class Workers:
    """The processes that share a batch, as torchrun starts them; one where it did not."""

    def __init__(self) -> None:
        self.count, self.rank = int(os.environ.get("WORLD_SIZE", 1)), int(os.environ.get("RANK", 0))
        if self.count > 1:
            distributed.init_process_group("gloo", timeout=timedelta(hours=1))

    def wait(self) -> None:
        """Wait until every process is here."""
        if self.count > 1:
            distributed.barrier()

    def average(self, models: torch.nn.Module, spent: float) -> float:
        """Put the mean gradient of all processes into `models`, and return the mean of `spent`, the same for all."""
        if self.count == 1:
            return spent
        parameters = list(models.parameters())
        grads = [torch.zeros_like(p) if p.grad is None else p.grad for p in parameters]
        flat = torch.cat([*(g.flatten() for g in grads), torch.tensor([spent])])
        distributed.all_reduce(flat)
        flat /= self.count
        sizes = [p.numel() for p in parameters]
        for p, part in zip(parameters, flat[:-1].split(sizes), strict=True):
            p.grad = part.view_as(p).contiguous(memory_format=torch.preserve_format)
        return float(flat[-1])


def main() -> None:
    """Train from scratch, or go on from what lies in the folder."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name in ("out", "tokenizer", "vae", "clip"):
        parser.add_argument(name, type=Path)
    parser.add_argument("seconds", type=float)
    parser.add_argument("--resume", action="store_true")
    parser.add_argument("--pictures", type=int, default=14_000)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--rate", type=float, help="learning rate; 1e-3 by default, 6e-4 to go on")
    given = parser.parse_args()
    workers = Workers()
    torch.manual_seed(workers.rank)
    allow_fast_matmul(DEVICE)
    tokenizer = CLIPTokenizer.from_pretrained(given.tokenizer)
    vae = AutoencoderKL.from_pretrained(given.vae, dtype=torch.float32).eval().requires_grad_(False)
    vae.to(DEVICE, memory_format=torch.channels_last)
    clip = open_clip.create_model(f"local-dir:{given.clip}", precision="fp32").eval().requires_grad_(False)
    clip.to(DEVICE).visual.to(memory_format=torch.channels_last)
    drawn = given.out.parent / "examples.pt"
    if workers.rank == 0 and not (given.resume and drawn.exists()):
        torch.save(Examples(Corpus(given.pictures, seed=3), vae, clip), drawn)
    workers.wait()
    examples = torch.load(drawn, weights_only=False)
    unet, text_encoder = new_unet(), new_text_encoder(tokenizer)
    adapter = new_adapter(unet, clip.visual.output_dim)
    if given.resume:
        unet = UNet2DConditionModel.from_pretrained(given.out / "unet", dtype=torch.float32)
        text_encoder = CLIPTextModel.from_pretrained(given.out / "text_encoder", dtype=torch.float32)
        adapter = read_adapter(given.out.parent / "demo-ip-adapter" / ADAPTER_FILE)
    unet._load_ip_adapter_weights([adapter], low_cpu_mem_usage=False)
    if DEVICE == "cpu":  # on a GPU, group normalisation copies such tensors
        unet.to(memory_format=torch.channels_last)
    models = torch.nn.ModuleList([unet, text_encoder]).train().requires_grad_(True).to(DEVICE)
    print(
        f"unet with adapter: {sum(p.numel() for p in unet.parameters()) / 1e6:.2f} M parameters", flush=True
    )
    scheduler = DDIMScheduler(
        num_train_timesteps=1000, beta_start=0.00085, beta_end=BETA_END, beta_schedule="scaled_linear",
        prediction_type="v_prediction", clip_sample=False, set_alpha_to_one=False, steps_offset=1,
    )  # fmt: skip
    batches = Batches(examples, tokenizer, -(-given.batch // workers.count), workers.rank)
    drawing = 0 if DEVICE == "cpu" else max(cores() - 4, 1)
    loader = DataLoader(batches, batch_size=None, num_workers=drawing)
    rate = given.rate or (6e-4 if given.resume else 1e-3)
    for average in train(models, examples.latents, loader, scheduler, given.seconds, rate, workers):
        if workers.rank:
            continue
        save(copy.deepcopy(average).cpu(), copy.deepcopy(vae).cpu(), tokenizer, scheduler, given.out)


def train(
    models: torch.nn.ModuleList,
    latents: torch.Tensor,
    batches: DataLoader,
    scheduler: DDIMScheduler,
    seconds: float,
    rate: float,
    workers: Workers,
) -> Iterator[torch.nn.ModuleList]:
    """Train on the velocity-prediction loss for `seconds`; yield the weights' moving average now and then, and last."""
    unet, text_encoder = models
    average = copy.deepcopy(models).requires_grad_(False)
    optimiser = torch.optim.AdamW(models.parameters(), lr=rate, weight_decay=0.01, betas=(0.9, 0.99))
    rng, start, spent, shown = np.random.default_rng(workers.rank), time.time(), 0.0, 0.0
    losses, latents = {"text": torch.zeros(()), "image": torch.zeros(())}, latents.to(DEVICE)
    for step, batch in enumerate(batches):
        for group in optimiser.param_groups:
            group["lr"] = rate * min(1, step / 200) * max(0.01, min(1.0, 1.6 * (1 - spent / seconds)))
        mode = "text" if batch.embeddings is None else "image"
        set_adapter_scale(unet, float(mode == "image"))
        clean = latents[batch.rows.to(DEVICE)]
        image = clean.new_zeros(
            len(clean), unet.encoder_hid_proj.image_projection_layers[0].image_embeds.in_features
        )
        if batch.embeddings is not None:
            image = batch.embeddings.to(DEVICE)
        noise = torch.randn_like(clean)
        t = torch.from_numpy(rng.integers(1000, size=len(clean))).to(DEVICE)
        predicted = unet(
            scheduler.add_noise(clean, noise, t),
            t,
            text_encoder(batch.tokens.to(DEVICE))[0],
            added_cond_kwargs={"image_embeds": [image[:, None]]},
        ).sample
        loss = F.mse_loss(predicted, scheduler.get_velocity(clean, noise, t))
        optimiser.zero_grad()
        loss.backward()
        spent = workers.average(models, time.time() - start)
        torch.nn.utils.clip_grad_norm_(models.parameters(), 1.0)
        optimiser.step()
        update(average, models, min(0.999, (1 + step) / (10 + step)))
        before = losses[mode].to(DEVICE)
        losses[mode] = torch.where(before > 0, 0.98 * before + 0.02 * loss.detach(), loss.detach())
        if step % 100 == 0 and workers.rank == 0:
            print(
                f"step {step} {spent:.0f}s text {losses['text']:.4f} image {losses['image']:.4f}", flush=True
            )
        if spent > seconds:
            break
        if spent - shown > 400:  # a training that is cut short leaves its last average behind
            shown = spent
            yield average
    yield average


@torch.no_grad()
def update(average: torch.nn.Module, model: torch.nn.Module, decay: float) -> None:
    torch._foreach_lerp_(list(average.parameters()), list(model.parameters()), 1 - decay)


def save(
    models: torch.nn.ModuleList,
    vae: AutoencoderKL,
    tokenizer: CLIPTokenizer,
    scheduler: DDIMScheduler,
    out: Path,
) -> None:
    """Write the adapter's file and, the adapter taken off, the pipeline's folder, both in half precision."""
    unet, text_encoder = models
    adapter = out.parent / "demo-ip-adapter"
    adapter.mkdir(parents=True, exist_ok=True)
    save_file(adapter_state(unet), adapter / ADAPTER_FILE)
    plain = new_unet()
    kept = {
        k: v for k, v in unet.state_dict().items() if "_ip." not in k and not k.startswith("encoder_hid_proj")
    }
    plain.load_state_dict(kept)
    StableDiffusionPipeline(
        vae=vae, text_encoder=text_encoder, tokenizer=tokenizer, unet=plain, scheduler=scheduler,
        safety_checker=None, feature_extractor=None, requires_safety_checker=False,
    ).to(torch.float16).save_pretrained(out)  # fmt: skip


if __name__ == "__main__":
    main()
