"""What a study tries, and what it refuses to try."""

from __future__ import annotations

import pytest

from recgen.config.loader import load_config
from recgen.core.errors import UserError
from recgen.tuning.space import contains, own_values, space, suggest, tuned


def _space(configure, *overrides: str):
    return load_config(configure({}), ["recgen.tune.space=null", *overrides])


def test_the_usual_settings_are_found_by_name_within_their_own_limits(configure):
    """k ends at the 7 that the generator allows, alpha at its 1; what it does not have is not tried; `steps` is not usual."""
    found = space(_space(configure, "recgen.tunable.alpha=0.2"))
    assert list(found) == ["tunable.k", "tunable.alpha", "tunable.decode.guidance_scale"]
    assert (found["tunable.k"].low, found["tunable.k"].high) == (1, 7)
    alpha = found["tunable.alpha"]
    assert (alpha.low, alpha.high, alpha.log) == (pytest.approx(0.02), 1.0, True)
    assert found["tunable.decode.guidance_scale"].low == 1.0


def test_every_generator_of_the_package_can_be_tuned(configure):
    """The defaults of all installed generators are accepted by those generators: RAGAR's k, r, alpha, beta, gamma among them."""
    names = ["ragar", "pmg", "rebeca", "stable_diffusion"]
    found = space(load_config("demo", [f"recgen.generators={names}"]))
    assert {
        "ragar.k",
        "ragar.r",
        "ragar.alpha",
        "ragar.beta",
        "ragar.gamma",
        "ragar.decode.guidance_scale",
    } <= found.keys()
    assert {"rebeca.guidance", "stable_diffusion.decode.guidance_scale", "pmg.alpha"} <= found.keys()
    assert found["pmg.alpha"].high == 1.0


def test_only_what_is_asked_for_is_tuned(configure):
    """`generators` narrows the study; names are checked."""
    config = _space(configure, "recgen.generators=[toy, tunable]", "recgen.tune.generators=[tunable]")
    assert tuned(config) == ["tunable"]
    assert all(key.startswith("tunable.") for key in space(config))
    with pytest.raises(UserError, match=r"tune.generators: found 'tuneable'.*Did you mean 'tunable'"):
        tuned(_space(configure, "recgen.tune.generators=[tuneable]"))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (
            "{tunable.kk: {low: 1, high: 3}}",
            "kk: found an unknown setting; expected one of tunable's. Did you mean 'k'",
        ),
        ("{other.k: {low: 1, high: 3}}", "found 'other.k'"),
        ("{tunable.k: {low: 1, high: 9}}", "recgen.tunable.k: found 9; expected less than or equal to 7"),
        ("{tunable.k: {low: 3, high: 1}}", "low at most high"),
        ("{tunable.alpha: {low: 0, high: 1, log: true}}", "with log, low above 0"),
        ("{tunable.mood: {choices: [good, awful]}}", "recgen.tunable.mood: found 'awful'"),
        ("{tunable.k: {lowest: 1, high: 3}}", "tune.space.tunable.k.lowest: found an unknown key"),
        ("{}", "tune.space"),
    ],
)
def test_mistakes_are_named_before_anything_runs(configure, given, message):
    """Unknown settings and values that the generator would refuse in the middle of a study."""
    with pytest.raises(UserError) as caught:
        space(load_config(configure({}), [f"recgen.tune.space={given}"]))
    assert message in str(caught.value)


def test_generators_without_usual_settings_need_a_space(configure):
    """The toy has none of the usual names."""
    with pytest.raises(UserError, match="something to try"):
        space(_space(configure, "recgen.generators=[toy]"))


def test_values_come_back_as_the_configuration_has_them(configure):
    """Types and grids: whole numbers stay whole, a configuration between two steps is not among what is tried."""
    import optuna

    tried = space(load_config(configure({}), []))
    own = own_values(load_config(configure({}), []), tried)
    assert own == {"tunable.decode.guidance_scale": 3.0, "tunable.k": 5}
    assert contains(tried, own)
    assert not contains(tried, {"tunable.decode.guidance_scale": 7.6})
    assert not contains(tried, {"tunable.k": 8})
    study = optuna.create_study()
    study.enqueue_trial(own)
    assert suggest(study.ask(), tried) == own
    drawn = suggest(study.ask(), tried)
    assert isinstance(drawn["tunable.k"], int) and drawn["tunable.decode.guidance_scale"] * 2 % 1 == 0
