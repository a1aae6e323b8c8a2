"""What activations take, without memory for them: published architectures are run on tensors that have shapes and no data.

Under torch's FakeTensorMode every operation says what it would allocate. `Meter` adds up the storages that are alive at once; its
peak, without weights and inputs, is what a network's call takes. Traced at one row: all of it grows with the rows.

    python -m experiments.memory.trace        # writes result.json beside this file
"""

from __future__ import annotations

import json
import weakref
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from recgen.assets import asset_folder
from recgen.core.compat import prepare_torchvision

prepare_torchvision()
import torch  # noqa: E402
from diffusers import AutoencoderKL, UNet2DConditionModel  # noqa: E402
from torch._subclasses.fake_tensor import FakeTensorMode  # noqa: E402
from torch.utils._python_dispatch import TorchDispatchMode  # noqa: E402
from torch.utils._pytree import tree_iter  # noqa: E402

from recgen.features.language import recompute_layers  # noqa: E402

MIB = 2.0**20
SD = {
    "down_block_types": ("CrossAttnDownBlock2D",) * 3 + ("DownBlock2D",),
    "up_block_types": ("UpBlock2D",) + ("CrossAttnUpBlock2D",) * 3,
    "block_out_channels": (320, 640, 1280, 1280),
}
UNETS: dict[str, dict[str, Any]] = {
    "demo-sd": UNet2DConditionModel.load_config(asset_folder("demo-sd") / "unet"),
    "sd15": {**SD, "sample_size": 64, "cross_attention_dim": 768, "attention_head_dim": 8},
    "sd2": {**SD, "sample_size": 96, "cross_attention_dim": 1024, "attention_head_dim": (5, 10, 20, 20),
            "use_linear_projection": True},
    "sdxl": {
        "sample_size": 128, "cross_attention_dim": 2048, "attention_head_dim": (5, 10, 20), "use_linear_projection": True,
        "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"), "block_out_channels": (320, 640, 1280),
        "transformer_layers_per_block": (1, 2, 10), "addition_embed_type": "text_time", "addition_time_embed_dim": 256,
        "projection_class_embeddings_input_dim": 2816,
    },
}  # fmt: skip
VAE = {
    "block_out_channels": (128, 256, 512, 512), "layers_per_block": 2, "latent_channels": 4,
    "down_block_types": ("DownEncoderBlock2D",) * 4, "up_block_types": ("UpDecoderBlock2D",) * 4,
}  # fmt: skip


class Meter(TorchDispatchMode):
    """Adds up the bytes of the storages that operations make, while they are alive."""

    def __init__(self, there: Iterable[torch.Tensor]) -> None:
        super().__init__()
        self.now = self.peak = 0
        self._alive = {
            each.untyped_storage()._cdata for each in there
        }  # a view of a weight is no new storage

    def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
        out = operation(*args, **(kwargs or {}))
        for each in tree_iter(out):
            if isinstance(each, torch.Tensor):
                self._see(each.untyped_storage())
        return out

    def _see(self, storage: torch.UntypedStorage) -> None:
        key, size = storage._cdata, storage.nbytes()
        if key not in self._alive:
            self._alive.add(key)
            self.now += size
            self.peak = max(self.peak, self.now)
            weakref.finalize(storage, self._gone, key, size)

    def _gone(self, key: int, size: int) -> None:
        self._alive.discard(key)
        self.now -= size


def peak(network: torch.nn.Module, call: Callable[[], Any]) -> float:
    """Return the MiB that a call of a network takes at most beside its weights."""
    with Meter(network.state_dict(keep_vars=True).values()) as meter:
        call()
    return round(meter.peak / MIB, 3)


def unet(shape: dict[str, Any]) -> dict[str, float]:
    network, edge = UNet2DConditionModel.from_config(shape).requires_grad_(False), shape["sample_size"]
    extra = shape.get("addition_embed_type") == "text_time"

    def call(rows: int, trains: bool) -> Callable[[], Any]:
        latents = torch.randn(rows, 4, edge, edge)
        words = torch.randn(rows, 77, shape["cross_attention_dim"], requires_grad=trains)
        more = {"text_embeds": torch.randn(rows, 1280), "time_ids": torch.randn(rows, 6)} if extra else {}

        def run() -> None:
            with torch.set_grad_enabled(trains):
                out = network(latents, torch.ones(rows), words, added_cond_kwargs=more).sample
                if trains:
                    torch.autograd.grad(out.float().square().mean(), [words])

        return run

    found = {"sample": peak(network, call(1, False)), "train": peak(network, call(1, True))}
    network.enable_gradient_checkpointing()
    return {**found, "train, recomputed": peak(network, call(1, True))}


@torch.no_grad()
def vae(shape: dict[str, Any], edge: int) -> dict[str, float]:
    network = AutoencoderKL.from_config(shape)
    down = 2 ** (len(shape["block_out_channels"]) - 1)
    latents, pixels = torch.randn(1, 4, edge // down, edge // down), torch.randn(1, 3, edge, edge)
    return {
        "decode": peak(network, no_grad(network.decode, latents)),
        "encode": peak(network, no_grad(network.encode, pixels)),
    }


def no_grad(call: Callable[..., Any], *given: Any) -> Callable[[], Any]:
    def run() -> None:
        with torch.no_grad():
            call(*given)

    return run


def without_data(model: torch.nn.Module) -> None:
    """Put a model that was built on the meta device, where peft can build one, on tensors without data."""
    for module in model.modules():
        for name, value in module._parameters.items():
            if value is not None:
                there = torch.empty(value.shape, dtype=value.dtype)
                module._parameters[name] = torch.nn.Parameter(there, requires_grad=value.requires_grad)
        for name, value in module._buffers.items():
            if value is not None:
                module._buffers[name] = torch.empty(value.shape, dtype=value.dtype)


def llama(tokens: int = 100) -> dict[str, float]:
    """Llama-2-7b with LoRA of rank 8, as RAGAR and PMG train it: rows of `tokens` tokens."""
    import peft
    from transformers import LlamaConfig, LlamaModel

    shape = LlamaConfig(
        hidden_size=4096,
        intermediate_size=11008,
        num_hidden_layers=32,
        num_attention_heads=32,
        vocab_size=32000,
    )
    found = {}
    for name in ("train", "train, recomputed"):
        with torch.device("meta"):
            model = peft.get_peft_model(
                LlamaModel(shape).requires_grad_(False), peft.LoraConfig(r=8), autocast_adapter_dtype=False
            )
        without_data(model)
        if name != "train":
            recompute_layers(model)
        trained = [weight for weight in model.parameters() if weight.requires_grad]

        def call(rows: int, model=model, trained=trained) -> Callable[[], Any]:
            words = torch.randn(rows, tokens, 4096)
            mask = torch.ones(rows, tokens, dtype=torch.long)

            def run() -> None:
                out = model(inputs_embeds=words, attention_mask=mask, use_cache=False).last_hidden_state
                torch.autograd.grad(out.float().square().mean(), trained)

            return run

        found[name] = peak(model, call(1))
    return found


def vit() -> dict[str, float]:
    import open_clip

    shape = {
        key: value for key, value in open_clip.get_model_config("ViT-H-14").items() if key != "custom_text"
    }
    network = open_clip.model.CLIP(**shape).requires_grad_(False)
    return {"images": peak(network, no_grad(network.encode_image, torch.randn(1, 3, 224, 224)))}


def main() -> None:
    found: dict[str, Any] = {}
    torch.set_default_dtype(torch.bfloat16)
    with FakeTensorMode(allow_non_fake_inputs=True):
        found["ViT-H-14"], found["Llama-2-7b"] = vit(), llama()
        print(found, flush=True)
        for name, shape in UNETS.items():
            edge = shape["sample_size"] * (4 if name == "demo-sd" else 8)
            own = AutoencoderKL.load_config(asset_folder("demo-sd") / "vae") if name == "demo-sd" else VAE
            found[name] = {**unet(shape), **vae(own, edge)}
            print(name, found[name], flush=True)
    note = "MiB of a row or image, in two bytes a number"
    Path(__file__).with_name("result.json").write_text(json.dumps({"unit": note, **found}, indent=1) + "\n")


if __name__ == "__main__":
    main()
