"""The shipped ranking models keep the contract that `recgen.testing` has for everybody's."""

from __future__ import annotations

from ranking_models.bm3 import BM3
from ranking_models.freedom import FREEDOM
from ranking_models.lattice import LATTICE
from ranking_models.micro import MICRO
from ranking_models.vbpr import VBPR
from ranking_models.verifier import Verifier
from recgen.testing import DownstreamModelContract, RankingModelContract


class TestBM3(DownstreamModelContract):
    model = BM3
    settings = {"embedding_size": 8, "learning_rate": 0.01}


class TestFREEDOM(RankingModelContract):
    model = FREEDOM
    settings = {"embedding_size": 8, "knn_k": 4, "learning_rate": 0.01, "edge_dropout": 0.3}


class TestLATTICE(RankingModelContract):
    model = LATTICE
    settings = {"embedding_size": 8, "knn_k": 4, "learning_rate": 0.01}


class TestMICRO(RankingModelContract):
    model = MICRO
    settings = {"embedding_size": 8, "knn_k": 4, "learning_rate": 0.01}


class TestVBPR(RankingModelContract):
    model = VBPR


class TestVerifier(RankingModelContract):
    model = Verifier
