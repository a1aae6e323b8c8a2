"""LPIPS and FID: equal to the packages that define them where weights are here, and never a download."""

import socket

import numpy as np
import pytest
import torch

from recgen.core.compat import prepare_torchvision
from recgen.metrics import networks

prepare_torchvision()  # torchmetrics imports torchvision


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    """An empty torch cache, and no way to a network: a download would fail the test."""

    def refuse(*args, **kwargs):
        raise AssertionError("a metric tried to reach the network")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    networks._lpips.cache_clear()
    networks._inception.cache_clear()
    (tmp_path / "checkpoints").mkdir()
    return tmp_path / "checkpoints"


@pytest.fixture
def images():
    return np.random.default_rng(0).integers(0, 256, size=(4, 64, 64, 3), dtype=np.uint8)


def test_absent_weights_are_named_with_what_to_do(images):
    assert networks.ALEXNET in networks.missing("lpips") and "copy" in networks.missing("lpips")
    assert networks.INCEPTION in networks.missing("fid")
    with pytest.raises(FileNotFoundError, match="alexnet"):
        networks.lpips_pairs(images, images, np.array([0]), np.array([1]))
    with pytest.raises(FileNotFoundError, match="inception"):
        networks.inception_features(images)


def random_weights(shapes):
    """Random weights for a network's state; layers that neither metric reads take no space on disk."""
    torch.manual_seed(0)
    state = {}
    for name, like in shapes.items():
        unused = name.startswith(("classifier", "fc"))
        drawn = 0.5 + torch.rand(like.shape) if "running_var" in name else 0.1 * torch.randn(like.shape)
        state[name] = torch.zeros(1).expand(like.shape) if unused else drawn
    return state


def test_lpips_equals_its_authors_package(own_cache, images):
    package = pytest.importorskip("lpips")
    import torchvision

    with torch.device("meta"):
        shapes = torchvision.models.alexnet(weights=None).state_dict()
    torch.save(random_weights(shapes), own_cache / networks.ALEXNET)
    assert networks.missing("lpips") is None
    rows, columns = np.array([0, 0, 3, 2]), np.array([1, 2, 0, 2])
    ours = networks.lpips_pairs(images, images, rows, columns)
    x = torch.tensor(images).permute(0, 3, 1, 2).float() / 127.5 - 1
    with torch.no_grad():
        theirs = package.LPIPS(net="alex", verbose=False).eval()(x[rows], x[columns]).reshape(-1).numpy()
    assert np.allclose(ours, theirs, atol=1e-6)
    assert ours[3] == pytest.approx(0.0, abs=1e-7) and ours[:3].min() > 0


def test_inception_features_equal_torchmetrics(own_cache, images, monkeypatch):
    fidelity = pytest.importorskip("torch_fidelity.feature_extractor_inceptionv3")
    from torchmetrics.image.fid import NoTrainInceptionV3

    path = own_cache / networks.INCEPTION
    torch.save({}, path)
    with monkeypatch.context() as patch, torch.device("meta"):  # the class loads weights as it is made
        patch.setattr(fidelity.FeatureExtractorInceptionV3, "load_state_dict", lambda self, state: None)
        shapes = fidelity.FeatureExtractorInceptionV3("shapes", ["2048"], str(path)).state_dict()
    torch.save(random_weights(shapes), path)
    assert networks.missing("fid") is None
    ours = networks.inception_features(images[:2])
    theirs = NoTrainInceptionV3("inception-v3-compat", ["2048"], str(path))
    expected = theirs(torch.tensor(images[:2]).permute(0, 3, 1, 2)).numpy()
    assert ours.shape == (2, 2048) and ours.std() > 0
    assert np.allclose(ours, expected, atol=1e-5)


def test_weights_that_are_not_tensors_are_refused(own_cache, images):
    pytest.importorskip("torch_fidelity")
    torch.save({"fc.weight": print}, own_cache / networks.INCEPTION)
    with pytest.raises(Exception, match=r"(?i)weights_only|unsupported|global"):
        networks.inception_features(images)
