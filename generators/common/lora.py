"""A LoRA on layers of the UNet (Hu et al., ICLR 2022), by peft: put on for a block, trained or drawn with, taken off again."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor

from recgen.core.seeding import torch_generator
from recgen.diffusion.backbone import Backbone


@contextmanager
def new_lora(
    backbone: Backbone, name: str, rank: int, layers: Sequence[str], run_seed: int, stage: str
) -> Iterator[dict[str, Tensor]]:
    """Put a new LoRA on the UNet for the block, switched on, and yield its parameters by name, float32.

    It starts as no change at all: the first factor of each layer is drawn by the run's seed, the second is zero. Inside the block
    ``with backbone.loras():`` draws without it.

    Parameters
    ----------
    backbone
        Whose UNet.
    name
        The LoRA's, of which the UNet has none yet.
    rank
        Of both factors.
    layers
        Ends of the names of the linear layers that have one.
    run_seed, stage
        What the first factors follow from.
    """
    from peft import LoraConfig

    unet = backbone.pipeline.unet
    try:
        unet.add_adapter(LoraConfig(r=rank, lora_alpha=rank, target_modules=list(layers)), adapter_name=name)
        with backbone.loras(name):
            found = {key: value for key, value in unet.named_parameters() if f".{name}." in key}
            for key, value in found.items():
                value.data = value.data.float()  # in 16 bits AdamW's first step divides by an epsilon of 0
                value.requires_grad_(True)
                if ".lora_A." in key:
                    drawn = torch.randn(value.shape, generator=torch_generator(run_seed, stage, item=key))
                    value.data.copy_(drawn / rank)
            yield found
    finally:
        take_off(backbone, [name])


def take_off(backbone: Backbone, names: Sequence[str]) -> None:
    """Leave the UNet as it was before `names` were put on: with those LoRAs that were there already, switched as they were."""
    unet = backbone.pipeline.unet
    there = [name for name in names if name in getattr(unet, "peft_config", {})]
    if there:
        unet.delete_adapters(there)
        if not getattr(unet, "peft_config", {}):
            unet.unload_lora()
    with backbone.loras():
        pass
