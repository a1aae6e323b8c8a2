"""Seconds of each piece of work: constants of one core, measured on the shipped models, times what there is to do.

The constants are CPU seconds of the core that `recgen.planning.machines` calls the reference; the probe of a machine and the
records of its finished tasks (`recgen.planning.speeds`) turn them into seconds there.
"""

from __future__ import annotations

from recgen.planning.machines import CPU_GFLOPS, Machine
from recgen.planning.networks import DiffusionNetwork
from recgen.planning.sizes import Sizes
from recgen.planning.trainings import Training
from recgen.planning.workload import Effort

_START = 4.0  # importing torch, RecBole, diffusers: once a process
_LOADING = 0.5  # an encoder or a pipeline, of which a process reads each once
_ROW, _READ = 25e-6, 0.4e-3  # an interaction of the log; an image looked at
_RENDERED = 0.6e-3  # an image that the renderer draws
_EMBEDDED, _TEXT = 1.5e-3, 0.6e-3  # an image read and put through demo-clip; a text
_LLM_TEXT = 3.2e-3  # a short prompt answered by demo-llm
_STEP = 0.02  # an optimiser step of small networks
_PAIR = {
    "MICRO": 3e-6,
    "VBPR": 4e-6,
    "Verifier": 7e-6,
}  # an interaction in training, beside what a batch costs
_BATCH, _NODE = 0.001, {"MICRO": 40e-6}  # a batch; a user or item that every batch's graph passes through
_SCORE = 12e-9  # a score of a validation, ranked
_TEST = 0.5  # building loaders, models and checkpoints of a training
_MEASURING, _MEASURED = 0.9, 12e-3  # reading what a generator's creatives are measured by; a creative
_WHAT_IF = 1.2e-6  # an item that a creative is ranked among
_SUMMED, _TESTED = 0.05, 0.28  # a source; a pair of generators, of which some twenty measures are compared
_REPORT, _SHOWN = 2.5, 0.02
_PARALLEL_LLM_TOKENS = 40  # of an answer


def dataset(sizes: Sizes, machine: Machine, renders: bool) -> float:
    """Return the seconds of reading, splitting and checking a data set, the start of the program included."""
    images = sizes.items * (_READ + (_RENDERED if renders else 0.0))
    return (_START + sizes.interactions * _ROW + images) / machine.speed


def loading(machine: Machine) -> float:
    """Return the seconds of reading the networks that a task works with."""
    return _LOADING / machine.speed


def embedding(images: float, texts: float, encoder_gflops: float, machine: Machine) -> float:
    """Return the seconds of reading images and putting them and texts through an encoder of so many GFLOPs an image."""
    read = images * _EMBEDDED + texts * _TEXT
    work = (images + texts / 5) * encoder_gflops
    rate = machine.network_speed * CPU_GFLOPS if machine.gpu is None else machine.gpu.alone * 2_000
    return read / machine.speed + work / rate


def answers(prompts: float, parameters: float, machine: Machine) -> float:
    """Return the seconds in which a causal language model of so many parameters answers short prompts."""
    if machine.gpu is None:
        return (
            prompts
            * (_LLM_TEXT + parameters * 2 * _PARALLEL_LLM_TOKENS / CPU_GFLOPS / 1e9)
            / machine.network_speed
        )
    return prompts * max(_LLM_TEXT, parameters * 2 * _PARALLEL_LLM_TOKENS / (machine.gpu.alone * 5e11))


def training(job: Training, sizes: Sizes, share: float, machine: Machine) -> float:
    """Return the seconds of one training of a ranking model on a share of the interactions that it learns from."""
    rows = share * (sizes.interactions if job.model == "Verifier" else sizes.likes)
    batches = -(-rows // job.batch)
    nodes = (sizes.users + sizes.items) * _NODE.get(job.model, 0.0)
    epoch = rows * _PAIR.get(job.model, 8e-6) + batches * (_BATCH + nodes)
    ranked = 0.0 if job.model == "Verifier" else sizes.users * sizes.items * _SCORE
    return (_TEST + job.epochs * epoch + job.evaluations * ranked) / machine.network_speed


def drawing(
    effort: Effort, network: DiffusionNetwork, encoder_gflops: float, llm: float, batch: int, machine: Machine
) -> float:
    """Return the seconds of an effort: sampling, decoding and embedding images, and training on them."""
    rows = effort.evaluations + 3 * effort.trained  # a gradient is about two more passes
    gflops = rows * network.evaluation + effort.images * network.decode + effort.encoded * network.encode
    seconds = machine.seconds(gflops, network, batch, rows / max(2 * batch, 1))
    seconds += embedding(effort.images, 0.0, encoder_gflops, machine) if effort.images else 0.0
    seconds += answers(effort.texts, llm, machine) if effort.texts else 0.0
    return seconds + effort.steps * _STEP / machine.network_speed


def measuring(creatives: int, sizes: Sizes, machine: Machine) -> float:
    """Return the seconds of measuring one generator's creatives."""
    return (_MEASURING + creatives * (_MEASURED + sizes.items * _WHAT_IF)) / machine.speed


def report(shown: int, machine: Machine) -> float:
    """Return the seconds of writing the report."""
    return (_REPORT + shown * _SHOWN) / machine.speed


def summary(generators: int, controls: int, machine: Machine) -> float:
    """Return the seconds of the summary: of each source its intervals, of each pair of generators its paired tests."""
    pairs = generators * (generators - 1) / 2
    return (0.3 + _SUMMED * (generators + controls) + _TESTED * pairs) / machine.speed
