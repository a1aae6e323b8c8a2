"""The strengths of text and interest, lambda_1 and lambda_2, against one another (table 8): a contact sheet and its numbers.

One fitted generator draws the same requests under every pair; nothing is trained again. The image's weight stays the recipe's.
Usage: python -m experiments.iamg_lambdas.measure
"""

from __future__ import annotations

from pathlib import Path

from PIL import Image, ImageDraw

from experiments import harness, iamg
from generators.iamg import IAMG
from recgen.data.images import read_image
from recgen.data.types import Creative
from recgen.pipeline.context import RunContext

HERE = Path(__file__).parent
LAMBDA1, LAMBDA2 = (0.0, 0.5, 1.0, 2.0), (0.0, 0.2, 0.5, 1.0)
REQUESTS, SHOWN = 16, 3
EDGE, GAP, LEFT = 64, 4, 72


def main() -> None:
    """Draw what is missing, and write result.json and grid.png."""
    given = harness.arguments(__doc__ or "", seeds=(61,))
    run, made, _, requests = iamg.opened(given, REQUESTS)
    drawn: dict[tuple[float, float], list[Creative]] = {}
    for text in LAMBDA1:
        for interest in LAMBDA2:
            made.config = made.config.model_copy(update={"lambda1": text, "lambda2": interest})
            drawn[text, interest] = list(made.generate(requests, run.data))
    tables = {pair: iamg.judged(run, creatives) for pair, creatives in drawn.items()}
    plain = tables[1.0, 0.2]
    result = {
        "seed": run.settings.seed,
        "requests": len(requests),
        "image's weight": made.config.decode.ip_adapter_scale,
        "means": {
            f"lambda1 {a}, lambda2 {b}": harness.means(rows, iamg.METRICS) for (a, b), rows in tables.items()
        },
        "against lambda1 1, lambda2 0.2": {
            f"lambda1 {a}, lambda2 {b}": harness.paired(rows, plain, iamg.METRICS[:3])
            for (a, b), rows in tables.items()
            if rows is not plain
        },
    }
    harness.save(result, HERE / "result.json")
    sheet(run, made, drawn).save(HERE / "grid.png", optimize=True)


def sheet(run: RunContext, made: IAMG, drawn: dict[tuple[float, float], list[Creative]]) -> Image.Image:
    """Return the contact sheet: for each of a few requests the item's own image and a grid, lambda_1 down, lambda_2 across."""
    step = EDGE + GAP
    wide, high = LEFT + (len(LAMBDA2) + 1) * step + GAP, len(LAMBDA1) * step + 44
    found = Image.new("RGB", (wide * SHOWN, high), "white")
    pen = ImageDraw.Draw(found)
    for n, creative in enumerate(drawn[1.0, 0.2][:SHOWN]):
        x0, data = n * wide, run.data
        pen.text((x0 + 4, 2), f"likes {', '.join(creative.recipe['interest'])}", fill="black")
        own = data.images[data.item_rows[creative.request.item_id]]
        assert own is not None
        found.paste(read_image(own).resize((EDGE, EDGE)), (x0 + 4, 40))
        pen.text((x0 + 4, 42 + EDGE), "the item's", fill="black")
        for i, text in enumerate(LAMBDA1):
            pen.text((x0 + LEFT, 60 + i * step), f"l1 {text}", fill="black")
            for j, interest in enumerate(LAMBDA2):
                place = (x0 + LEFT + 44 + j * step, 40 + i * step)
                pen.text((place[0] + 8, 24), f"l2 {interest}", fill="black")
                found.paste(drawn[text, interest][n].image, place)
    return found


if __name__ == "__main__":
    main()
