"""How many tags rewrite the text (H, figure 3), how right tags and foregrounds are, and what each stage takes (appendix D).

H is read in drawing only here: one generator, fitted with the recipe's H, draws the same requests under each. Seconds are of CPU.
Usage: python -m experiments.iamg_tags.measure
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from experiments import harness, iamg
from generators.iamg import IAMG
from recgen.data.images import read_image
from recgen.data.simulation.attributes import VOCABULARIES, Attributes
from recgen.data.simulation.renderer import render, render_mask
from recgen.data.simulation.simulator import Truth
from recgen.features.foreground import cut_out, plain_ground_mask
from recgen.features.prompts import text_tags_prompt
from recgen.pipeline.context import RunContext

HERE = Path(__file__).parent
COUNTS = (0, 2, 4, 8, 12)
REQUESTS, TIMED, MASKS = 48, 48, 400


def main() -> None:
    """Draw, measure and write result.json."""
    given = harness.arguments(__doc__ or "", seeds=(61,))
    run, made, folder, requests = iamg.opened(given, REQUESTS)
    tables = {}
    for count in COUNTS:
        other = IAMG(made.config.model_copy(update={"tags": count}), run.models.backbone, run.models.encoder)
        other.load(folder)
        tables[count] = iamg.judged(run, list(other.generate(requests, run.data)))
    result = {
        "seed": run.settings.seed,
        "requests": len(requests),
        "H": {count: harness.means(rows, iamg.METRICS) for count, rows in tables.items()},
        "H against the recipe's": {
            count: harness.paired(rows, tables[made.config.tags], ("ssim", "true_utility_gain"))
            for count, rows in tables.items()
            if count != made.config.tags
        },
        "tags against the true attributes": agreement(run),
        "foreground against the true mask": overlap(),
        "CPU seconds an item or image": stages(run, made),
    }
    harness.save(result, HERE / "result.json")


def agreement(run: RunContext) -> dict[str, dict[str, float]]:
    """Return precision and recall: of images' tags and of all against all true attributes, of texts' against the content."""
    table, truth = (
        pd.read_parquet(run.folder / "features/tags.parquet"),
        Truth.load(run.folder / "dataset/simulator"),
    )
    looks = truth.attributes_of(table["item_id"].tolist())
    words = [{VOCABULARIES[kind][code] for kind, code in enumerate(look)} for look in looks]
    content = [{VOCABULARIES[0][look[0]]} for look in looks]
    compared = {"image": words, "text": content, "tags": words}
    return {column: _rates(table[column], true) for column, true in compared.items()}


def _rates(found: pd.Series, true: list[set[str]]) -> dict[str, float]:
    hits = sum(len(set(a) & b) for a, b in zip(found, true, strict=True))
    return {"precision": hits / max(sum(map(len, found)), 1), "recall": hits / sum(map(len, true))}


def overlap() -> dict[str, float]:
    """Return how the default foreground agrees with the renderer's true masks, over images of all looks."""
    rng, found = np.random.default_rng(7), []
    for seed in range(MASKS):
        look = Attributes(*(int(rng.integers(len(words))) for words in VOCABULARIES))
        a, b = (
            np.asarray(mask) > 127
            for mask in (plain_ground_mask(render(look, seed)), render_mask(look, seed))
        )
        found.append((a & b).sum() / (a | b).sum())
    low = float(np.quantile(found, 0.05))
    return {"images": MASKS, "mean intersection over union": float(np.mean(found)), "5% are below": low}


def stages(run: RunContext, made: IAMG) -> dict[str, float]:
    """Return CPU seconds of each stage, per item or image, over some of the catalogue, once its models are read."""
    data, encoder, model = run.data, run.models.encoder, run.models.language_model
    paths = [path for path in data.images if path is not None][:TIMED]
    images = [read_image(path) for path in paths]
    prompts = [text_tags_prompt("general", text, 8) for text in data.texts[:TIMED]]
    assert model is not None
    work = {
        "foreground": lambda: [cut_out(image, plain_ground_mask) for image in images],
        "encoding an image": lambda: encoder.images(images),
        "encoding a text": lambda: encoder.texts(data.texts[:TIMED]),
        "tags of a text, language model": lambda: model.complete(prompts, 48),
    }
    found = {}
    for name, call in work.items():
        call()
        with iamg.Seconds() as clock:
            call()
        found[name] = clock.cpu / TIMED
    requests = iamg.strangers(run, made, 32)
    for name, changes in {
        "an image": {},
        "an image without rewrite and IRA": {"rewrite": False, "lambda2": 0.0},
    }.items():
        other = IAMG(made.config.model_copy(update=changes), run.models.backbone, run.models.encoder)
        other.adapter, other.ira = made.adapter, made.ira
        list(other.generate(requests[:2], data))
        with iamg.Seconds() as clock:
            list(other.generate(requests, data))
        found[name] = clock.cpu / len(requests)
    return found


if __name__ == "__main__":
    main()
