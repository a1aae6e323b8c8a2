"""What is installed, which weights and data are here, and what to do about what is missing."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterable, Iterator
from importlib.metadata import PackageNotFoundError, distributions, version

from recgen.assets import asset_folder
from recgen.config import plugins
from recgen.config.loader import load_config, shipped
from recgen.core.machine import available_memory, cores
from recgen.core.version import __version__
from recgen.pipeline.missing_weights import isnet_weights
from recgen.recommender.recbole import PACKAGED, data_folder

PACKAGES = (
    "torch", "torchvision", "recbole", "numpy", "pandas", "pyarrow", "diffusers", "transformers", "open_clip_torch", "peft",
    "faiss-cpu", "requests", "torchmetrics", "torch_fidelity",
)  # fmt: skip
EXTRAS = {
    "optuna": ("tune", "recgen tune"),
    "psycopg": ("postgres", "recgen tune --storage postgresql://..."),
}
"""Packages that one command asks for: the extra that brings each, and the command."""

SHIPPED = ("demo-clip", "demo-sd", "demo-ip-adapter", "demo-llm", "attribute-reader")

Finding = tuple[bool, str, str]  # whether it is here, what it is, and what is known of it or to be done


def examine() -> str:
    """Return the findings as lines of text, one each, with `--` before what is missing."""
    sections = {
        "Machine": _machine(),
        "Packages": _packages(),
        "Plugins": _plugins(),
        "Weights": _weights(),
        "Data": _data(),
    }
    lines = []
    for title, findings in sections.items():
        lines.append(title)
        lines += [
            f"  {'ok' if here else '--'}  {what:<20} {known}".rstrip() for here, what, known in findings
        ]
    return "\n".join(lines)


def _machine() -> Iterator[Finding]:
    import torch

    yield True, "recgen", f"{__version__}, Python {platform.python_version()}"
    tested = platform.python_version_tuple()[:2] == ("3", "11")
    yield (
        tested,
        "Python 3.11",
        "the tested version" if tested else "not in use: RecBole's ray has no wheel for 3.12; use 3.11",
    )
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    free = available_memory()
    known = f"{cores()} cores, {memory:.0f} GiB of memory" + (
        f", {free:.1f} free" if free is not None else ""
    )
    yield True, "CPU", known
    if torch.cuda.is_available():
        yield True, "GPU", torch.cuda.get_device_name(0)
    else:
        yield False, "GPU", "none that torch can use; everything runs on the CPU"


FAISS = ("faiss-cpu", "faiss-gpu", "faiss-gpu-cu11", "faiss-gpu-cu12")
"""Distributions of the one package `faiss`."""


def _faiss(installed: Iterable[str]) -> Iterator[Finding]:
    """Yield a finding where more than one distribution of faiss is installed: the later has overwritten half of the other."""
    found = [name for name in FAISS if name in set(installed)]
    if len(found) > 1:
        yield False, " and ".join(found), f"pip uninstall -y {' '.join(found)}, then install one of them"


def _packages() -> Iterator[Finding]:
    yield from _faiss(str(each.name).lower() for each in distributions())
    for name in PACKAGES:
        try:
            yield True, name, version(name)
        except PackageNotFoundError:
            yield False, name, f"pip install -c constraints.txt {name}"
    for name, (extra, command) in EXTRAS.items():
        try:
            yield True, name, version(name)
        except PackageNotFoundError:
            yield False, name, f"for {command}: pip install -c constraints.txt -e '.[{extra}]'"


def _plugins() -> Iterator[Finding]:
    for title, group in (("generators", plugins.GENERATORS), ("ranking models", plugins.RANKING_MODELS)):
        found = plugins.names(group)
        yield bool(found), title, ", ".join(found) or "none; install recgen itself: pip install -e ."


def _weights() -> Iterator[Finding]:
    from recgen.metrics import networks

    for name in SHIPPED:
        folder = asset_folder(name)
        files = [file for file in folder.rglob("*") if file.is_file()] if folder.is_dir() else []
        size = sum(file.stat().st_size for file in files) / 2**20
        yield bool(files), name, f"{size:.1f} MiB" if files else "not shipped with this version"
    words = sorted(file.stem for file in asset_folder("vocabularies").glob("*.yaml"))
    yield (
        bool(words),
        "clip-tagger",
        f"vocabularies: {', '.join(words)}" if words else "not shipped with this version",
    )
    yield _isnet()
    yield _fetched()
    for metric in networks.WANTED:
        reason = networks.missing(metric)
        yield reason is None, f"weights of {metric.upper()}", reason or "here"


def _isnet() -> Finding:
    """What `recgen.foreground: isnet` needs: rembg, and the weights where rembg looks for them."""
    try:
        known = f"rembg {version('rembg')}"
    except PackageNotFoundError:
        return (
            False,
            "isnet",
            "pip install -c constraints.txt 'recgen[foreground]'; foreground: plain-ground needs nothing",
        )
    if isnet_weights().is_file():
        return True, "isnet", known
    return False, "isnet", f"{known}, without {isnet_weights()}: fetched when it is first used"


def _fetched() -> Finding:
    """What the hub's cache holds: models that a configuration may name by id without a network."""
    from huggingface_hub import scan_cache_dir
    from huggingface_hub.errors import CacheNotFound

    try:
        models = sorted(found.repo_id for found in scan_cache_dir().repos if found.repo_type == "model")
    except CacheNotFound:
        models = []
    absent = "none; an id that encoder, backbone, captioner or llm names is fetched when it is first used"
    return bool(models), "fetched models", ", ".join(models) or absent


def _data() -> Iterator[Finding]:
    folder = data_folder({"dataset": PACKAGED})
    here = (folder / f"{PACKAGED}.inter").is_file()
    yield (
        here,
        PACKAGED,
        str(folder) if here else "reinstall recbole: pip install --force-reinstall --no-deps recbole",
    )
    for name in shipped():
        config = load_config(name)
        if config.settings.download is not None:
            folder = data_folder(config.recbole)
            here = (folder / f"{folder.name}.inter").is_file()
            obtain = config.settings.download
            yield (
                here,
                folder.name,
                str(folder) if here else f"not in {folder}: get {obtain.get}; {obtain.prepare}",
            )
