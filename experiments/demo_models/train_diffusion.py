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

import numpy as np
import torch
from corpus import Corpus
from safetensors.torch import load_file, save_file
from torch import distributed
from torch.nn import functional as F
from torch.utils.data import DataLoader
from train_tokenizer import CONTEXT
from training_data import Batches, Examples

from recgen.core.compat import prepare_torchvision
from recgen.core.device import allow_fast_matmul, choose_device
from recgen.core.machine import cores

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
