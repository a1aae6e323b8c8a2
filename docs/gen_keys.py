"""Writes reference/keys.md while the documentation is built: every key of the YAML, from the classes that check it."""

from __future__ import annotations

from collections.abc import Iterable

import mkdocs_gen_files

from recgen.cli.listing import model_defaults
from recgen.config import plugins
from recgen.config.describe import Key, keys
from recgen.config.schema import Settings

HEAD = """# Every key of the YAML

RecBole's keys stand at the top level and mean what they mean in RecBole. Everything else stands below `recgen:`.
A generator has a block of its own name there; so has a name of your own for one, `sharper: {generator: ragar, ...}`.
This page is made from the classes that check a configuration; the last column names them.
"""


def table(rows: Iterable[Key]) -> str:
    """Return keys as a Markdown table."""
    lines = ["| key | type | default | meaning | source |", "| --- | --- | --- | --- | --- |"]
    for key in rows:
        cells = (
            f"`{key.name}`",
            key.type,
            f"`{key.default}`" if key.default else "",
            key.meaning,
            f"`{key.source}`",
        )
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(lines) + "\n"


def page() -> str:
    """Return the whole page."""
    parts = [HEAD, "## `recgen:`\n", table(keys(Settings, "recgen."))]
    parts.append("## Generators\n")
    for name in plugins.names(plugins.GENERATORS):
        kind = plugins.load(plugins.GENERATORS, name, "docs")
        parts += [f"### `recgen.{name}:`\n", (kind.__doc__ or "").strip().partition("\n")[0] + "\n"]
        parts.append(table(keys(kind.Config, f"recgen.{name}.")))
    parts.append("## Ranking models\n\nRecBole's keys by model, below `recgen.ranker.settings.MODEL:`.\n")
    for name in plugins.names(plugins.RANKING_MODELS):
        kind = plugins.load(plugins.RANKING_MODELS, name, "docs")
        parts += [f"### `{name}`\n", "| key | type | default |\n| --- | --- | --- |"]
        parts += [f"| `{key}` | {kind_} | `{default}` |" for key, kind_, default in model_defaults(kind)]
        parts.append("")
    return "\n".join(parts)


with mkdocs_gen_files.open("reference/keys.md", "w") as file:
    file.write(page())
