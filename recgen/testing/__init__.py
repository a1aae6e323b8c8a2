"""Tests that other packages inherit: what every generator and every ranking model of recgen does.

They need pytest. `pytest_plugins = ["recgen.testing.fixtures"]` in a conftest.py or a test module brings the fixtures that they
ask for.
"""

from typing import TYPE_CHECKING

import pytest

from recgen.core.lazy import exports

if TYPE_CHECKING:
    from recgen.testing.generators import GeneratorContract
    from recgen.testing.ranking_models import DownstreamModelContract, RankingModelContract

__all__ = ["DownstreamModelContract", "GeneratorContract", "RankingModelContract"]

pytest.register_assert_rewrite("recgen.testing.generators", "recgen.testing.ranking_models")

__getattr__ = exports(
    __name__,
    DownstreamModelContract="ranking_models",
    GeneratorContract="generators",
    RankingModelContract="ranking_models",
)
