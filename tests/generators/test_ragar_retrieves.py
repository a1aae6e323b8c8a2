"""What retrieval is for: of a user with two tastes, the one that goes with the item decides how its creative looks."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from generators.ragar import RAGAR
from generators.ragar.settings import Settings
from recgen.assets import asset_folder
from recgen.core.seeding import seed_for
from recgen.data.simulation.attribute_reader import AttributeReader
from recgen.data.simulation.attributes import COLOURS, GROUNDS, MOTIFS, PATTERNS, Attributes, caption
from recgen.data.simulation.renderer import render
from recgen.data.types import Request, RunData
from recgen.diffusion.backbone import load_backbone
from recgen.features.encoders import load_encoder
from recgen.features.language import LanguageModel

CLASSES = (("heart", "kite"), ("skull", "rocket"))
TASTES = (("pink", "cream", "dots"), ("teal", "navy", "stripes"))
NEUTRAL = ("white", "slate", "plain")
USERS = 12


def looks() -> list[Attributes]:
    """Per class and motif four images in the taste that users have for the class, then one reference in no taste."""
    rows = []
    for motifs, taste in zip(CLASSES, TASTES, strict=True):
        for motif in motifs:
            for colour, ground, pattern in [taste] * 4 + [NEUTRAL]:
                rows.append(
                    Attributes(
                        MOTIFS.index(motif),
                        COLOURS.index(colour),
                        GROUNDS.index(ground),
                        PATTERNS.index(pattern),
                    )
                )
    return rows


@pytest.fixture(scope="module")
def found(tiny_llm) -> dict[int, np.ndarray]:
    """For k = 4 and k = 0: how far users' creatives of a class have the look of a taste, ``[2 classes, 2 tastes]``."""
    encoder, items = load_encoder("demo-clip"), looks()
    captions = [caption(look) for look in items]
    liked = [n for n in range(len(items)) if n % 5 != 4]
    rows = [
        {"user": user, "item": item, "like": True, "timestamp": float(at), "split": "train"}
        for user in range(USERS)
        for at, item in enumerate(np.random.default_rng(user).permutation(liked))
    ]
    data = RunData(
        [f"u{n}" for n in range(USERS)], [f"i{n}" for n in range(len(items))], [f"a {look.words[0]}" for look in items],
        [asset_folder("demo-sd")] * len(items), encoder.images([render(look, n) for n, look in enumerate(items)]),
        encoder.texts(captions), pd.DataFrame(rows), 3, captions, encoder.texts(captions), [look.words for look in items],
    )  # fmt: skip
    requests = [
        Request(
            f"u{user}",
            f"i{item}",
            seed_for(3, "request", f"u{user}", f"i{item}"),
            tuple(f"i{n}" for n in liked),
        )
        for item in (4, 14)
        for user in range(USERS)
    ]
    backbone, reader = (
        load_backbone("demo-sd", "demo-ip-adapter"),
        AttributeReader.load(asset_folder("attribute-reader")),
    )
    decode = {"steps": 6, "sampler": "dpm++2m", "guidance_scale": 3.0}
    shares = {}
    for k in (4, 0):
        settings = Settings(
            retrieve_from="history",
            weights="similarity",
            k=k,
            beta=0.0,
            max_steps=1,
            train_users=4,
            held_out_users=1,
            decode=decode,
        )
        generator = RAGAR(settings, backbone, encoder, LanguageModel(str(tiny_llm)))
        generator.fit(data)
        seen = reader.read([creative.image for creative in generator.generate(requests, data)])
        assert (seen[:, 0] == [items[int(r.item_id[1:])].motif for r in requests]).mean() > 0.8
        shares[k] = np.array(
            [[_taste(part, taste) for taste in TASTES] for part in (seen[:USERS], seen[USERS:])]
        )
    return shares


def _taste(seen: np.ndarray, taste: tuple[str, str, str]) -> float:
    wanted = [COLOURS.index(taste[0]), GROUNDS.index(taste[1]), PATTERNS.index(taste[2])]
    return float((seen[:, 1:] == wanted).mean())


def test_with_retrieval_the_taste_of_the_items_class(found) -> None:
    for kind in (0, 1):
        assert found[4][kind, kind] > 0.8 and found[4][kind, 1 - kind] < 0.1, found[4]


def test_without_retrieval_a_mixture_that_does_not_know_the_item(found) -> None:
    with_it, without = np.diag(found[4]).mean(), np.diag(found[0]).mean()
    assert without < with_it - 0.25, found
    gap = np.abs(found[0][0] - found[0][1]).max()
    assert gap < 0.35, f"the mixture is much the same for either class: {found[0]}"
