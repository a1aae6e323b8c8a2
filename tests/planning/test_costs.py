"""Each formula of the planner's seconds, money and sums, counted by hand."""

from __future__ import annotations

import pytest

from recgen.config.loader import load_config
from recgen.planning import costs, machines, memory
from recgen.planning import sizes as counting
from recgen.planning.estimate import Cost
from recgen.planning.networks import DEMO, SD2, SD15, SDXL
from recgen.planning.plan import Plan, PlannedTask, corrected, text
from recgen.planning.sizes import Sizes
from recgen.planning.trainings import Training, training
from recgen.planning.workload import Effort

SIZES = Sizes(users=10, items=20, interactions=500, likes=250, requests=8)
ONE, FAST, FOUR = machines.Machine(1.0, 1), machines.Machine(2.0, 1), machines.Machine(1.0, 4)
A100 = machines.Machine(1.0, 1, machines.gpu("a100"))


def trained(model: str, batch: int = 100, machine: machines.Machine = ONE) -> float:
    return costs.training(Training(model, 3, 3, 2, batch), SIZES, 0.8, machine)


def test_a_training_is_its_interactions_batches_and_validations():
    """0.8 of 250 likes are 200 rows and two batches; 3 epochs, and twice the scores of 10 users for 20 items."""
    validations = 2 * 10 * 20 * 12e-9
    assert trained("VBPR") == pytest.approx(0.5 + 3 * (200 * 4e-6 + 2 * 0.001) + validations)
    assert trained("VBPR", batch=199) == pytest.approx(trained("VBPR")), "the last batch is not full"
    assert trained("VBPR", batch=200) == pytest.approx(trained("VBPR") - 3 * 0.001)
    graph = 30 * 40e-6  # every batch passes through all users and items
    assert trained("MICRO") == pytest.approx(0.5 + 3 * (200 * 3e-6 + 2 * (0.001 + graph)) + validations)
    assert trained("unknown") == pytest.approx(0.5 + 3 * (200 * 8e-6 + 2 * 0.001) + validations)
    likes_and_dislikes = 0.5 + 3 * (400 * 7e-6 + 4 * 0.001)
    assert trained("Verifier") == pytest.approx(likes_and_dislikes), "it ranks nobody's items"
    assert trained("VBPR", machine=FAST) == trained("VBPR", machine=FOUR) == trained("VBPR") / 2


def test_encoding_is_reading_and_the_networks_work():
    assert costs.embedding(100, 10, 0.0, ONE) == pytest.approx(100 * 1.5e-3 + 10 * 0.6e-3)
    work = 102 * 30.0 / machines.CPU_GFLOPS  # five texts are as much as an image
    assert costs.embedding(100, 10, 30.0, ONE) == pytest.approx(0.156 + work)
    assert costs.embedding(100, 10, 30.0, FAST) == pytest.approx((0.156 + work) / 2)
    assert costs.embedding(100, 10, 30.0, FOUR) == pytest.approx(0.156 + work / 2), "one core reads"
    on_gpu = 102 * 30.0 / (21.66 * 2_000)
    assert costs.embedding(100, 10, 30.0, A100) == pytest.approx(0.156 + on_gpu)


def test_answers_are_their_tokens():
    large = 7e9 * 2 * 40 / 30e9  # seconds of 40 tokens, two FLOPs a parameter
    assert costs.answers(10, 7e9, ONE) == pytest.approx(10 * (3.2e-3 + large))
    assert costs.answers(10, 7e9, FOUR) == pytest.approx(10 * (3.2e-3 + large) / 2)
    assert costs.answers(10, 7e9, A100) == pytest.approx(10 * 7e9 * 80 / (21.66 * 5e11))
    assert costs.answers(10, 1e6, A100) == pytest.approx(10 * 3.2e-3), "no answer takes less"


def test_drawing_is_the_sum_of_its_efforts():
    def seconds(machine: machines.Machine = ONE, **effort: float) -> float:
        return costs.drawing(Effort(**effort), SD15, 30.0, 7e9, 16, machine)

    assert seconds() == 0
    assert seconds(evaluations=10) == pytest.approx(10 * SD15.evaluation / 30)
    assert seconds(trained=10) == pytest.approx(3 * seconds(evaluations=10)), "forward and backward"
    assert seconds(encoded=2) == pytest.approx(2 * SD15.encode / 30)
    assert seconds(texts=3) == pytest.approx(costs.answers(3, 7e9, ONE))
    assert seconds(steps=5) == pytest.approx(0.1) and seconds(FOUR, steps=5) == pytest.approx(0.05)
    images = costs.embedding(4, 0, 30.0, ONE)
    assert seconds(images=4) == pytest.approx(4 * SD15.decode / 30 + images)
    parts = seconds(evaluations=10) + seconds(trained=7) + seconds(images=4) + seconds(steps=5)
    assert seconds(evaluations=10, trained=7, images=4, steps=5) == pytest.approx(parts)


def test_a_gpu_waits_for_whichever_is_slower_its_arithmetic_or_its_launches():
    """One iteration of a batch of one with guidance is two rows; 1.2 times its rate is as fast as kernels are launched."""
    iteration = 2 * SD15.evaluation
    few = costs.drawing(Effort(evaluations=320), DEMO, 0.0, 0.0, 16, A100)
    assert few == pytest.approx(10 / (1.2 * 21.66)), "ten calls of 16 images with guidance"
    busy = A100.seconds(16 * iteration, SD15, 16, 1)
    assert busy == pytest.approx(1 / 3.04)
    assert A100.seconds(16 * iteration, SD15, 16, 100) == pytest.approx(100 / (1.2 * 21.66))
    assert A100.seconds(16 * iteration, SD15, 15, 1) == busy, "the nearest batch that was measured"


@pytest.mark.parametrize("name", machines.GPUS)
def test_every_gpu_has_an_estimate_of_every_work(name: str):
    """The A10's rates were published from batches of four on: 5 iterations of four images are 20 of one."""
    machine = machines.Machine(1.0, 1, machines.gpu(name))
    some = Effort(images=4, evaluations=200, texts=2)
    assert (
        0 < costs.drawing(some, SD15, 30.0, 7e9, 16, machine) < costs.drawing(some, SD15, 30.0, 7e9, 16, ONE)
    )
    assert machines.GPUS["a10"].alone == 20 and machines.GPUS["a100"].alone == 21.66


def test_the_stages_without_networks():
    assert costs.dataset(SIZES, ONE, False) == pytest.approx(4 + 500 * 25e-6 + 20 * 0.4e-3)
    rendered = costs.dataset(SIZES, ONE, True) - costs.dataset(SIZES, ONE, False)
    assert rendered == pytest.approx(20 * 0.6e-3) and costs.loading(ONE) == 0.5 == 2 * costs.loading(FAST)
    assert costs.dataset(SIZES, FAST, False) == pytest.approx(costs.dataset(SIZES, ONE, False) / 2)
    assert costs.measuring(8, SIZES, ONE) == pytest.approx(0.9 + 8 * (12e-3 + 20 * 1.2e-6))
    assert costs.measuring(8, SIZES, FAST) == pytest.approx(costs.measuring(8, SIZES, ONE) / 2)
    assert costs.report(40, ONE) == pytest.approx(2.5 + 40 * 0.02) == 2 * costs.report(40, FAST)
    assert (
        costs.summary(3, 4, ONE) == pytest.approx(0.3 + 0.05 * 7 + 0.28 * 3) == 2 * costs.summary(3, 4, FAST)
    )


def test_efforts_add_up_and_scale():
    one, other = Effort(images=1, steps=2), Effort(images=3, evaluations=5)
    assert one + other == Effort(images=4, evaluations=5, steps=2)
    assert one * 3 == 3 * one == Effort(images=3, steps=6)


def test_a_training_ends_by_its_keys_or_ten_validations_after_its_best():
    """RecBole's own keys: 300 epochs, a validation each, 10 without a better one; the best is expected after ten."""
    assert training("unknown") == Training("unknown", 20, 300, 20, 2048)
    often = {"eval_step": 4, "epochs": 70}
    assert training("unknown", often) == Training("unknown", 70, 70, 17, 2048), (
        "a validation every fourth epoch"
    )
    assert training("unknown", {"eval_step": 0, "stopping_step": 5}).epochs == 15
    assert training("unknown", {"eval_step": 3, "stopping_step": 5}).epochs == 45


def test_networks_gain_by_threads_up_to_sixteen():
    found = [machines.Machine(2.0, threads).network_speed for threads in (1, 4, 16, 64)]
    assert found == [2.0, 4.0, 8.0, 8.0]


def test_small_and_large_pipelines_have_rates_of_their_own():
    assert ONE.seconds(65.0, DEMO, 16, 1) == 1 and ONE.seconds(30.0, SD15, 16, 1) == 1
    card = machines.gpu("a100")
    assert card.tflops(SDXL, 1) == pytest.approx(8.64 * 2 * SDXL.evaluation / 1e3)
    assert card.tflops(SD2, 1) == card.tflops(SD15, 1) == pytest.approx(21.66 * 2 * SD15.evaluation / 1e3)
    assert machines.gpu("v100").tflops(SDXL, 1) == pytest.approx(18.99 * 2 * SD15.evaluation / 1e3)


def plan_of(*tasks: PlannedTask, **changes: object) -> Plan:
    found = memory.tasks(load_config("pog"), SIZES, False)
    return Plan(list(tasks), SIZES, ONE, found, 1.0, **changes)  # type: ignore[arg-type]


def test_money_is_hours_and_what_endpoints_charge():
    done = PlannedTask("a", True, Cost("x", 9_000.0, 5, (70, 80), 9.0))
    drawing = PlannedTask("b", False, Cost("x", 1_800.0, 30))
    asking = PlannedTask("c", False, Cost("y", 3_600.0, 2, (100, 20), 1.5))
    priced = plan_of(done, drawing, asking, price=4.0)
    assert priced.seconds == 5_400 and priced.images == 32 and priced.tokens == (100, 20)
    assert priced.money == pytest.approx(1.5 * 4.0 + 1.5)
    assert plan_of(done, drawing, asking).money == 1.5 and plan_of(done, drawing).money is None
    assert plan_of(drawing, price=0.0).money == 0
    told = text(priced)
    assert "money    7.50" in told and "tokens   100 of questions and 20 of answers" in told
    assert "images   32 to draw, 8 requests for each generator" in told
    assert "2 of 3 tasks to do, 32 images to draw, about 1.5 h" in priced.line()


def test_estimates_are_put_right_by_their_kind():
    tasks = [PlannedTask("a", False, Cost("x", 10.0)), PlannedTask("b", False, Cost("y", 10.0))]
    assert [task.cost.seconds for task in corrected(tasks, {"x": 1.5})] == [15.0, 10.0]


def test_the_disk_holds_images_features_and_the_log():
    sizes = Sizes(users=1, items=1_000, interactions=10_000, likes=1, requests=1)
    photographs = 40 * (1.7 * 512**2 + 2_000)
    found = memory.disk(load_config("pog"), 40, sizes) * 2**30
    assert found == pytest.approx(photographs + 1_000 * 8_000 + 10_000 * 60)


def test_requests_are_as_many_as_users_and_items_allow():
    def requests(*overrides: str, users: int = 10, items: int = 50) -> int:
        settings = load_config("simulated", overrides).settings
        return counting.with_requests(users, items, 100, 60, settings).requests

    assert requests("recgen.requests=7") == 7 and requests("recgen.requests=70") == 10
    assert requests("recgen.requests=null") == 10
    assert requests("recgen.requests={protocol: paper, users: 4}") == 4
    assert requests("recgen.requests={protocol: blind, items: 20, per_item: 3}") == 60


def test_a_simulators_users_like_half_of_what_they_meet():
    config = load_config("simulated", ["recgen.simulator={users: 30, items: 40, interactions_per_user: 7}"])
    assert config.settings.simulator is not None
    found = counting.of_simulator(config.settings.simulator, config.settings)
    assert (found.users, found.items, found.interactions, found.likes) == (30, 40, 210, 105)
