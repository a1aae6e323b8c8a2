"""Ranking models that look at item images, as ordinary RecBole models; `register()` makes RecBole find them."""

from __future__ import annotations


def register() -> None:
    """Make RecBole find BM3, FREEDOM, LATTICE, MICRO, VBPR and Verifier by name, with their defaults and their trainer.

    Afterwards ``recbole.quick_start.run_recbole(model="MICRO", dataset=...)`` works in this process. Calling it twice
    does no harm.
    """
    from ranking_models.bm3 import BM3
    from ranking_models.freedom import FREEDOM
    from ranking_models.lattice import LATTICE
    from ranking_models.micro import MICRO
    from ranking_models.vbpr import VBPR
    from ranking_models.verifier import Verifier
    from recgen.core.compat import register_recbole_model

    for model in (BM3, FREEDOM, LATTICE, MICRO, VBPR, Verifier):
        register_recbole_model(model)
