"""The peak memory of each task that runs networks, item by item: weights, activations, gradients and optimiser states; and disk.

Weights are counted from the headers of safetensors files that are here, else by what is published; activations by rows, see
`recgen.planning.activations`. Batches are those that are configured, or what a run would come down to where memory is short.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

from recgen.assets import asset_folder
from recgen.config import plugins
from recgen.config.generators import GeneratorSpec
from recgen.config.loader import Config
from recgen.diffusion.profiles import profile_of
from recgen.diffusion.sampling import Sampling
from recgen.planning import activations
from recgen.planning.networks import (
    SDXL,
    DiffusionNetwork,
    LanguageNetwork,
    adapter_parameters,
    captioner_parameters,
    diffusion_network,
    encoder_file,
    encoder_size,
    language_network,
    pipeline_file,
    stored,
)
from recgen.planning.sizes import Sizes
from recgen.planning.workload import Held

_GIB, _MIB = 2.0**30, 2.0**20
_PROGRAM = 0.57  # GiB: Python with torch, RecBole, diffusers and transformers
_CONTEXT = (
    0.6  # GiB: the CUDA context and cuBLAS' and cuDNN's workspaces, as nvidia-smi shows for an idle process
)
_ROW = 500  # bytes of an interaction in the tables and RecBole's copies of them
_TRAINED = (
    20  # bytes of a float32 parameter that trains: itself, its gradient, AdamW's two moments, the best so far
)
_ENCODED = 64  # images that the encoder is given together
_WRITTEN = (
    8_000  # tokens continued at once: `recgen.features.language` takes 24,000 characters, of three a token
)
_REORDERED = 0.22  # of a pipeline's weights: what a CPU's convolutions keep of them in an order of their own, measured on
# Stable Diffusion 1.5's shapes (experiments/real_shapes)
_PIXELS = 2**21  # of images that the VAE is given together, see `recgen.diffusion.backbone`
_PROMPTS = 1_024  # whose text conditions are kept

Batch = Callable[[int], "Item"]
Phases = list[tuple[int, Batch]]


@dataclass(frozen=True)
class Item:
    """Something that takes memory, and how many GiB of it."""

    what: str
    gib: float


@dataclass(frozen=True)
class TaskMemory:
    """What is in memory at the same time at the worst moment of a task.

    Attributes
    ----------
    task
        As `recgen run` names it.
    items
        What takes how much.
    halved
        How often the batch that is at work then was halved to fit.
    """

    task: str
    items: tuple[Item, ...]
    halved: int = 0

    @property
    def gib(self) -> float:
        """The sum of the items."""
        return sum(item.gib for item in self.items)


@dataclass(frozen=True)
class _Network:
    """A network as it is loaded: what it takes then, and the GiB of the largest of its files, which is there while it is read."""

    items: tuple[Item, ...]
    file: float


def tasks(
    config: Config, sizes: Sizes, on_gpu: bool, room: float | None = None, program: bool = True
) -> list[TaskMemory]:
    """Return the memory of each task that runs networks, in the order of a run.

    Parameters
    ----------
    config
        The configuration.
    sizes
        Of its data.
    on_gpu
        Whether networks are on a GPU, whose memory is then counted; else it is this machine's.
    room
        GiB that there are: batches are halved until they fit, as in a run. None takes them as configured.
    program
        Whether the program itself is counted, or a GPU's own memory beside torch's.
    """
    return _Counter(config, sizes, on_gpu, room, program).tasks()


def largest(found: list[TaskMemory]) -> TaskMemory:
    """Return the task that takes most."""
    return max(found, key=lambda task: task.gib)


class _Counter:
    def __init__(self, config: Config, sizes: Sizes, on_gpu: bool, room: float | None, program: bool) -> None:
        self.config, self.settings, self.sizes = config, config.settings, sizes
        self.on_gpu, self.room = on_gpu, room
        precision = self.settings.precision
        halves = precision in ("bf16", "fp16", "bfloat16", "float16") or (precision == "auto" and on_gpu)
        self.width = 2 if halves else 4  # bytes of a number in the pipeline
        self.encoder_width = 2 if on_gpu and precision != "float32" else 4
        self.text_width = 2 if on_gpu else 4  # a language model's own type, or float32
        self.counts_program, self.always = program, self._always() if program else []

    def _always(self) -> list[Item]:
        if self.on_gpu:
            return [Item("the GPU's own programs", _CONTEXT)]
        return [Item("program", _PROGRAM), Item("data", self.sizes.interactions * _ROW / _GIB)]

    def tasks(self) -> list[TaskMemory]:
        phases: Phases = [(min(_ENCODED, self.sizes.items), self._encoded)]
        found = [self._worst("features", [self._encoder], phases)]
        found += self._read()
        for spec in self.config.generators.values():
            if spec.families:
                found += self._generator(spec)
        return found

    def _read(self) -> list[TaskMemory]:
        """Return what models of images and of language take that read the catalogue once."""
        s, asked = self.settings, {need for spec in self.config.generators.values() for need in spec.needs}
        found = []
        for need, named in (("captions", s.captioner), ("tags", s.tags.image)):
            size = captioner_parameters(named) if isinstance(named, str) else 0.0
            wanted = need in asked or (need == "captions" and "keywords" in asked)
            if wanted and size:
                captioner = self._of_transformers(f"captioner {named}", str(named), size)
                found.append(self._worst(f"features/{need}", [self._encoder, captioner], []))
        if asked & {"keywords", "tags"} and s.keywords.endpoint is None and s.llm is not None:
            networks = [self._encoder, self._language]
            found.append(self._worst("features/keywords", networks, [(_WRITTEN, self._written)]))
        return found

    def _generator(self, spec: GeneratorSpec) -> list[TaskMemory]:
        """Return a generator's two tasks."""
        network = diffusion_network(spec.checkpoint or self.settings.backbone)
        model = plugins.settings_class(spec.kind, f"{self.config.source}: recgen.generators")
        config = model.model_validate(spec.settings)
        held = config.held(self.sizes, network, self._language_network)
        networks = [self._pipeline(network, spec), self._encoder]
        if "keywords" in spec.needs:
            networks.append(self._language)
        asked = max(round(config.workload(self.sizes.requests, self.sizes.users).draw.images), 1)
        prompts, nothing = self._prompts(network), held == Held()
        learned = held.trained * (_TRAINED - 16) / _GIB  # of it, what a fitted generator keeps
        decode = getattr(config, "decode", Sampling.model_validate({}))
        draws, tries = (
            _Drawing(self, network, each) for each in (decode, getattr(config, "train_decode", decode))
        )
        drawn = [
            prompts,
            *self._reordered(network),
            *([Item("what was learned", learned)] if learned else []),
        ]
        phases: Phases = [*draws.phases(asked), (min(_ENCODED, asked), self._encoded)]
        beside, at_work = self._fitting(spec, network, held, tries)
        return [
            self._worst(
                f"generator.fit/{spec.name}", networks, at_work, [] if nothing else [prompts, *beside]
            ),
            self._worst(f"generate/{spec.name}", networks, phases, drawn, loaded=True),
        ]

    def _fitting(
        self, spec: GeneratorSpec, network: DiffusionNetwork, held: Held, draws: _Drawing
    ) -> tuple[list[Item], Phases]:
        """Return what is there beside the networks throughout a fit, and its phases."""
        recomputed, fixed, phases = self._recomputed(spec), list[Item](), Phases()
        if held.trained:
            what = f"{held.trained / 1e6:.1f} M parameters that train, gradients, moments"
            fixed.append(Item(what, held.trained * _TRAINED / _GIB))
        if held.own:
            fixed.append(Item("activations of the method's own network", held.own * 4 / _GIB))
        if held.gradients:
            line = network.activations.recomputed if recomputed else network.activations.train
            reads = held.read and not held.sampled

            def training(rows: int) -> Item:
                more = self._reading(rows, recomputed).gib if reads else 0.0
                return Item(f"{rows} rows trained together", more + self._rows(line, rows))

            phases.append((held.gradients, training))
        if held.measured:
            phases.append((held.measured, lambda rows: self._sampled(network, rows)))
        if held.encoded:
            phases.append(
                (self._together(network), lambda rows: self._vae(network, network.activations.encode, rows))
            )
        if held.sampled:
            fixed += self._reordered(network)
            if held.read:  # what the language model computed waits until the images are judged
                fixed.append(self._reading(held.read, recomputed))
            phases += [*draws.phases(held.sampled), (min(_ENCODED, held.sampled), self._encoded)]
        return fixed, phases

    def _worst(
        self,
        task: str,
        networks: Sequence[_Network],
        phases: Phases,
        beside: Sequence[Item] = (),
        loaded: bool = False,
    ) -> TaskMemory:
        """Return a task at the worst of its phases, each with its batch halved until it fits, or while its networks are read.

        Parameters
        ----------
        networks
            In the order in which they are loaded, and whether they are `loaded` when the task begins.
        phases
            Rows of a batch, and what so many take.
        beside
            What is there in every phase.
        """
        base = [*self.always, *(item for network in networks for item in network.items), *beside]
        held, found = sum(item.gib for item in base), TaskMemory(task, tuple(base))
        if not loaded:
            found = max([found, *self._loading(task, networks)], key=lambda each: each.gib)
        for rows, batch in phases:
            halved = 0
            while self.room is not None and rows > 1 and held + batch(rows).gib > self.room:
                rows, halved = rows // 2, halved + 1
            made = TaskMemory(task, (*base, batch(rows)), halved)
            found = max(found, made, key=lambda each: (each.gib, each.halved))
        return found

    def _loading(self, task: str, networks: Sequence[_Network]) -> list[TaskMemory]:
        """Return what is there while each network is read into this machine's memory: those before it, it, and its file."""
        if self.on_gpu or not self.counts_program:
            return []
        found, there = [], self.always
        for network in networks:
            there = [*there, *network.items]
            read = Item("the file of weights while it is read", network.file)
            found.append(TaskMemory(task, (*there, read)))
        return found

    def _pipeline(self, network: DiffusionNetwork, spec: GeneratorSpec) -> _Network:
        more = network.vae * (4 - self.width) if network is SDXL else 0.0  # its VAE stays in float32
        name = spec.checkpoint or self.settings.backbone
        found = [Item(f"backbone {name}", (network.parameters * self.width + more) / _GIB)]
        if spec.checkpoint is None and self.settings.ip_adapter is not None:
            size = adapter_parameters(self.settings.ip_adapter, network)
            found.append(Item("IP-Adapter", size * self.width / _GIB))
        return _Network(tuple(found), pipeline_file(name, network) / _GIB)

    def _reordered(self, network: DiffusionNetwork) -> list[Item]:
        """Return what drawing keeps beside the pipeline's weights; a GPU's libraries read them as they are."""
        if self.on_gpu:
            return []
        return [Item("weights reordered", _REORDERED * network.parameters * self.width / _GIB)]

    def _prompts(self, network: DiffusionNetwork) -> Item:
        """Return the text conditions that a pipeline keeps, of requests' items and of what is asked beside them."""
        kept = min(2 * self.sizes.requests, _PROMPTS)
        return Item(f"{kept} prompts", kept * 77 * network.text_width * self.width / _GIB)

    @cached_property
    def _encoder(self) -> _Network:
        spec = self.settings.encoder
        name, size = spec if isinstance(spec, str) else spec.model, encoder_size(spec)[0]
        found = Item(f"encoder {name}", size * self.encoder_width / _GIB)
        return _Network((found,), encoder_file(spec) / _GIB)

    @cached_property
    def _language_network(self) -> LanguageNetwork:
        return language_network(self.settings.llm)

    @cached_property
    def _language(self) -> _Network:
        llm = str(self.settings.llm)
        return self._of_transformers(f"language model {llm}", llm, self._language_network.parameters)

    def _of_transformers(self, what: str, spec: str, size: float) -> _Network:
        """Return a network of so many parameters whose files, where they are not here, have two bytes a number, as published."""
        found = Item(what, size * self.text_width / _GIB)
        return _Network((found,), stored(asset_folder(spec), 2 * size) / _GIB)

    def _encoded(self, rows: int) -> Item:
        share = encoder_size(self.settings.encoder)[0] / encoder_size("ViT-H-14")[0]
        return Item(
            f"{rows} images encoded together", _gib(activations.VIT_H * share, rows, self.encoder_width)
        )

    def _written(self, tokens: int) -> Item:
        llm = self._language_network
        kept = 2 * llm.layers * llm.width * self.text_width  # keys and values of a token
        return Item(f"keys and values of {tokens} tokens", tokens * kept / _GIB)

    def _reading(self, texts: int, recomputed: bool) -> Item:
        line = activations.LANGUAGE["train, recomputed" if recomputed else "train"]
        llm = self._language_network
        share = llm.layers * llm.width / activations.LANGUAGE_SIZE
        what = f"{texts} users read by the language model with gradients"
        return Item(what, _gib(line * share, texts, self.text_width))

    def _sampled(self, network: DiffusionNetwork, rows: int) -> Item:
        return Item(f"{rows} rows of the UNet", self._rows(network.activations.sample, rows))

    def _rows(self, line: float, rows: int) -> float:
        return _gib(line, rows, self.width)

    def _together(self, network: DiffusionNetwork) -> int:
        return 1 if self.settings.memory.vae_slicing else max(_PIXELS // network.edge**2, 1)

    def _vae(self, network: DiffusionNetwork, line: float, rows: int) -> Item:
        return Item(f"{rows} images in the VAE", _gib(line, rows, 4 if network is SDXL else self.width))

    def _recomputed(self, spec: GeneratorSpec) -> bool:
        own = self.settings.memory.gradient_checkpointing
        named = self.settings.profile if spec.checkpoint is None else "auto"
        profile = profile_of(spec.checkpoint or self.settings.backbone, named)
        return profile.gradient_checkpointing if own is None else own


CARDS = (24, 40)
"""GB of GPUs that a plan says the fit of: an RTX 3090, 4090 or A10, and an A100."""


def fits(config: Config, sizes: Sizes, card: int) -> TaskMemory:
    """Return the task that takes most on a GPU of so many GB, with batches that fit where any do."""
    return largest(tasks(config, sizes, True, card * 1e9 / _GIB))


@dataclass(frozen=True)
class _Drawing:
    """The phases of drawing images: the UNet's rows, and after them the VAE's images."""

    counter: _Counter
    network: DiffusionNetwork
    decode: Sampling

    def phases(self, most: int | None = None) -> Phases:
        """Return the phases of batches as `decode` says, of at most so many images."""
        images = min(self.decode.batch_size, self.counter.settings.shard_size, most or self.decode.batch_size)
        passes = 2 if self.decode.guidance_scale > 1 else 1
        together = min(images, self.counter._together(self.network))

        def denoised(rows: int) -> Item:
            item = self.counter._sampled(self.network, rows * passes)
            return Item(f"{rows} images sampled together", item.gib)

        line = self.network.activations.decode
        return [(images, denoised), (together, lambda rows: self.counter._vae(self.network, line, rows))]


def _gib(row: float, rows: int, width: int) -> float:
    return row * rows * width / 2 * _MIB / _GIB


def disk(config: Config, images: int, sizes: Sizes) -> float:
    """Return the GiB that a run's folder takes: its images, their embeddings and its tables."""
    edge = diffusion_network(config.settings.backbone).edge
    image = 1.7 * edge**2 + 2_000  # a PNG of a photograph; flat colours take less
    return (images * image + sizes.items * 8_000 + sizes.interactions * 60) / _GIB
