"""Adapters with random weights for the tiny pipelines, in the formats of the published ones."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import save_file

from recgen.diffusion.backbone import load_backbone


def random_adapter(pipeline: Path, folder: Path) -> Path:
    """Write an IP-Adapter for image embeddings of width 16, in the layout of ip-adapter_sd15.safetensors, and return its path."""
    backbone = load_backbone(str(pipeline))
    unet, width = backbone.pipeline.unet, backbone.condition_width
    torch.manual_seed(3)
    state = {
        "image_proj.proj.weight": torch.randn(4 * width, 16) / 4,
        "image_proj.proj.bias": torch.zeros(4 * width),
        "image_proj.norm.weight": torch.ones(width),
        "image_proj.norm.bias": torch.zeros(width),
    }
    cross = [name for name in unet.attn_processors if "attn2" in name]
    for number, name in enumerate(cross):
        size = unet.get_submodule(name.removesuffix(".processor")).to_q.out_features
        for part in ("to_k_ip", "to_v_ip"):
            state[f"ip_adapter.{2 * number + 1}.{part}.weight"] = torch.randn(size, width)
    path = folder / "ip-adapter.safetensors"
    save_file(state, path)
    return path


def random_lora(pipeline: Path, folder: Path) -> Path:
    """Write a LoRA of the UNet's attention with random weights, as diffusers saves one, and return its folder."""
    backbone = load_backbone(str(pipeline))
    drawing = backbone.pipeline
    layers, generator = {}, torch.Generator().manual_seed(5)
    for name, module in drawing.unet.named_modules():
        if name.endswith((".to_q", ".to_v")):
            layers[f"{name}.lora.down.weight"] = torch.randn(2, module.in_features, generator=generator) / 2
            layers[f"{name}.lora.up.weight"] = torch.randn(module.out_features, 2, generator=generator) / 2
    drawing.save_lora_weights(folder, unet_lora_layers=layers)
    return folder
