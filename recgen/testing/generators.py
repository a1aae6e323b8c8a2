"""What every generator must do: a test class inherits `GeneratorContract` and says how to make its generator.

It asks for the fixtures `backbone`, `encoder` and `data`; `recgen.testing.fixtures` has some of the shipped models, and a
conftest.py may have others.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from generators.base import Generator
from generators.settings import GeneratorConfig
from recgen.core.seeding import seed_for
from recgen.data.types import Creative, Request, RunData

Load = Callable[..., Generator]


def ask(user: str, item: str, history: tuple[str, ...] = ("i1", "i2")) -> Request:
    """A request as the host makes it."""
    return Request(user, item, seed_for(5, "request", user, item), history)


REQUESTS = [ask(f"u{n % 10}", f"i{n + 1}") for n in range(11)]


def pixels(creatives: list[Creative]) -> np.ndarray:
    """Images as float ``[n, H, W, 3]`` in [0, 1]."""
    return np.stack([np.asarray(creative.image, dtype=np.float64) / 255 for creative in creatives])


def assert_same_images(a: list[Creative], b: list[Creative]) -> None:
    """Equal to 1e-4 but for rounding to whole levels, which may tip a value over to the next one."""
    assert [creative.request for creative in a] == [creative.request for creative in b]
    difference = np.abs(pixels(a) - pixels(b))
    assert difference.max() <= 1 / 255 + 1e-9
    assert (difference > 1e-4).mean() < 0.005


def files(folder: Path) -> dict[str, bytes]:
    """All files of a folder by their names in it."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


class GeneratorContract:
    """Tests of one generator; subclasses define `make` and `batch`.

    Examples
    --------
    A test module of another package::

        from recgen.testing import GeneratorContract

        pytest_plugins = ["recgen.testing.fixtures"]


        class TestMine(GeneratorContract):
            @staticmethod
            def make(backbone, encoder, **changes):
                return Mine(Settings(**{"decode": {"steps": 2}, **changes}), backbone, encoder)

            @staticmethod
            def batch(size):
                return {"decode": {"steps": 2, "batch_size": size}}
    """

    @staticmethod
    def make(backbone: Any, encoder: Any, **changes: Any) -> Generator:
        """Return a generator with small settings, of which `changes` take the place of some."""
        raise NotImplementedError

    @staticmethod
    def batch(size: int) -> dict[str, Any]:
        """Return the changes of the settings for which images are drawn in batches of `size`."""
        raise NotImplementedError

    @pytest.fixture(scope="class")
    def saved(
        self, backbone: Any, encoder: Any, data: RunData, tmp_path_factory: pytest.TempPathFactory
    ) -> Path:
        """Where the fitted generator was saved."""
        generator = self.make(backbone, encoder)
        generator.fit(data)
        folder = tmp_path_factory.mktemp("generator")
        generator.save(folder)
        return folder

    @pytest.fixture
    def load(self, saved: Path, backbone: Any, encoder: Any) -> Load:
        """A function that returns the fitted generator under changed settings."""

        def load(**changes: Any) -> Generator:
            generator = self.make(backbone, encoder, **changes)
            generator.load(saved)
            return generator

        return load

    def test_settings_refuse_what_they_do_not_know(self, backbone: Any, encoder: Any) -> None:
        generator = self.make(backbone, encoder)
        kind = type(generator)
        assert issubclass(kind.Config, GeneratorConfig) and isinstance(generator.config, kind.Config)
        assert kind.Config.sampling_fields - {"decode"} <= kind.Config.model_fields.keys()
        with pytest.raises(ValidationError):
            kind.Config.model_validate({**generator.config.model_dump(), "no_such_setting": 1})

    def test_recipes_are_plain_values(self, load: Load, data: RunData) -> None:
        for creative in load().generate(REQUESTS[:2], data):
            assert json.loads(json.dumps(creative.recipe, allow_nan=False)) == creative.recipe

    def test_answers_every_request_in_order_with_an_image(
        self, load: Load, data: RunData, backbone: Any
    ) -> None:
        creatives = list(load().generate(REQUESTS, data))
        assert [creative.request for creative in creatives] == REQUESTS
        size = backbone.image_size
        assert all(c.image.mode == "RGB" and c.image.size == (size, size) for c in creatives)
        assert all(c.generator and c.recipe and c.seconds >= 0 for c in creatives)

    def test_batch_size_changes_nothing(self, load: Load, data: RunData) -> None:
        one = list(load(**self.batch(1)).generate(REQUESTS, data))
        assert_same_images(one, list(load(**self.batch(32)).generate(REQUESTS, data)))

    def test_order_changes_nothing(self, load: Load, data: RunData) -> None:
        forwards = list(load().generate(REQUESTS, data))
        assert_same_images(forwards, list(load().generate(REQUESTS[::-1], data))[::-1])
        assert_same_images(forwards[3:5], list(load().generate(REQUESTS[3:5], data)))

    def test_another_seed_is_another_image(self, load: Load, data: RunData) -> None:
        first = REQUESTS[0]
        twice = [first, Request(first.user_id, first.item_id, first.seed + 1, first.history)]
        a, b = pixels(list(load().generate(twice, data)))
        assert np.abs(a - b).mean() > 0.01

    def test_fitting_again_saves_the_same_bytes(
        self, saved: Path, backbone: Any, encoder: Any, data: RunData, tmp_path: Path
    ) -> None:
        torch.rand(1), np.random.rand()  # nothing may depend on global randomness
        generator = self.make(backbone, encoder)
        generator.fit(data)
        generator.save(tmp_path)
        assert files(tmp_path) == files(saved)

    def test_loaded_and_saved_again_are_the_same_bytes(self, saved: Path, load: Load, tmp_path: Path) -> None:
        load().save(tmp_path)
        assert files(tmp_path) == files(saved)

    def test_fitted_and_loaded_draw_the_same(
        self, load: Load, backbone: Any, encoder: Any, data: RunData
    ) -> None:
        generator = self.make(backbone, encoder)
        generator.fit(data)
        assert_same_images(
            list(generator.generate(REQUESTS[:3], data)), list(load().generate(REQUESTS[:3], data))
        )

    @pytest.mark.parametrize(
        "request_",
        [ask("u1", "i0"), ask("nobody", "i3"), ask("u11", "i3"), ask("u10", "i3", ()), ask("u1", "i3", ())],
        ids=[
            "item without image",
            "unknown user",
            "user without likes",
            "user without history",
            "request without history",
        ],
    )
    def test_draws_for_those_it_knows_little_of(self, load: Load, data: RunData, request_: Request) -> None:
        (creative,) = load().generate([request_], data)
        assert creative.request == request_ and creative.image.mode == "RGB"

    def test_no_requests_no_creatives(self, load: Load, data: RunData) -> None:
        assert list(load().generate([], data)) == []

    def test_progress_is_reported(self, load: Load, backbone: Any, encoder: Any, data: RunData) -> None:
        calls: list[tuple[str, int, int]] = []
        list(load().generate(REQUESTS[:2], data, progress=lambda *call: calls.append(call)))
        assert [done for _, done, _ in calls][-1] == 2 and all(total == 2 for _, _, total in calls)

    def test_nothing_trains_that_should_not(self, backbone: Any, encoder: Any, data: RunData) -> None:
        modules = {
            "unet": backbone.pipeline.unet, "vae": backbone.pipeline.vae, "text": backbone.pipeline.text_encoder,
            "clip": encoder.model,
        }  # fmt: skip
        before = {name: {k: v.clone() for k, v in m.state_dict().items()} for name, m in modules.items()}
        generator = self.make(backbone, encoder)
        generator.fit(data)
        list(generator.generate(REQUESTS[:2], data))
        for name, module in modules.items():
            after = module.state_dict()
            assert all(torch.equal(tensor, after[key]) for key, tensor in before[name].items()), name
            assert all(parameter.grad is None for parameter in module.parameters()), name
