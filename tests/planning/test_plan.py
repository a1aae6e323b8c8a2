"""`recgen plan`: counted by hand where arithmetic can be, against a run's own record where it cannot."""

from __future__ import annotations

import json
import subprocess
import sys
import time

import psutil
import pytest
from click.testing import CliRunner
from threadpoolctl import threadpool_info, threadpool_limits

from recgen import cli
from recgen.config.loader import load_config
from recgen.core.errors import UserError
from recgen.core.io import write_json
from recgen.pipeline import forecast, session
from recgen.pipeline.context import RunContext
from recgen.planning import costs, machines, memory, speeds
from recgen.planning import sizes as counting
from recgen.planning.clock import Clock
from recgen.planning.estimate import Cost, Estimator
from recgen.planning.networks import DEMO, SD15, SDXL, diffusion_network
from recgen.planning.plan import Plan, PlannedTask, text
from recgen.planning.sizes import Sizes
from recgen.planning.trainings import training
from recgen.planning.workload import Effort

SIZES = Sizes(users=100, items=50, interactions=4_000, likes=2_000, requests=40)
ONE = machines.Machine(speed=1.0, threads=1)


def estimator(overrides=(), sizes=SIZES, machine=ONE, config="simulated"):
    return Estimator(load_config(config, overrides), sizes, machine)


def test_images_are_counted():
    found = estimator(["recgen.controls=[placebo]"])
    assert found.cost("generate", "generate/ip_adapter_mean").images == 40
    assert found.cost("generate", "generate/control.placebo").images == 4 * 40
    few = estimator(["recgen.controls=[placebo]", "recgen.placebo_noises=3"])
    assert few.cost("generate", "generate/control.placebo").images == 3 * 40
    shared = estimator(["recgen.controls=[placebo]", "recgen.requests.items=10"])
    assert shared.cost("generate", "generate/control.placebo").images == 4 * 10, (
        "one set for all users of an item"
    )
    # 24 steps of 16 requests with two perturbations and their mirror images; 7 evaluations of 20 held-out users, a fifth of 100
    assert found.cost("generator.fit", "generator.fit/ragar").images == 24 * 16 * 4 + 7 * 20
    assert found.cost("generate", "generate").images == 0


def test_the_placebo_is_drawn_as_plain_as_its_sampling_is():
    """Whatever the first generator that samples does for an image beside sampling it, the placebo does not."""

    def seconds(*overrides: str) -> float:
        found = estimator(["recgen.controls=[placebo]", *overrides])
        return found.cost("generate", "generate/control.placebo").seconds

    plain = seconds("recgen.generators=[stable_diffusion]", "recgen.stable_diffusion.decode.steps=6")
    several = ["recgen.taste.best_of=9", "recgen.taste.decode={steps: 6, guidance_scale: 3}"]
    one = "recgen.stable_diffusion.decode={steps: 6, guidance_scale: 3}"
    assert seconds("recgen.generators=[taste]", *several) == seconds(
        "recgen.generators=[stable_diffusion]", one
    )
    assert (
        seconds(
            "recgen.generators=[mine, stable_diffusion]",
            "recgen.mine={generator: folder, path: x}",
            "recgen.stable_diffusion.decode.steps=6",
        )
        == plain
        > 0
    )


def test_posters_that_are_drawn_take_their_time():
    drawn, read = (
        estimator([f"recgen.images={images}"], config="pog").cost("dataset", "dataset")
        for images in ("rendered", "data/x")
    )
    assert drawn.seconds - read.seconds == pytest.approx(50 * costs._RENDERED)


def test_images_are_not_encoded_again_for_a_judge_with_the_runs_encoder():
    def seconds(*judges: str) -> float:
        found = estimator([f"recgen.ranker.judge_encoder=[{', '.join(judges)}]"])
        return found.cost("features", "features/judge").seconds - costs.loading(ONE)

    assert seconds("demo-clip") == 0 < seconds("demo-resnet") == seconds("demo-clip", "demo-resnet")


def test_pmg_draws_an_image_for_every_weight():
    found = estimator(["recgen.generators=[pmg]", "recgen.pmg.weights=[0.2, 0.8]"])
    assert found.cost("generate", "generate/pmg").images == 80


def test_more_work_takes_longer():
    def draw(*overrides, machine=ONE):
        return estimator([*overrides], machine=machine).cost("generate", "generate/ip_adapter_mean").seconds

    few, many = draw("recgen.ip_adapter_mean.decode.steps=6"), draw("recgen.ip_adapter_mean.decode.steps=12")
    assert 1.5 < many / few < 2
    assert draw("recgen.ip_adapter_mean.decode.guidance_scale=1") < 0.7 * few
    assert draw(machine=machines.Machine(2.0, 1)) == pytest.approx(few / 2)


def test_generators_are_compared_in_pairs():
    """Twelve took 18.3 s of a core in experiments/instruments' runs, two 0.7 to 1.0 s."""

    def summary(generators: int) -> float:
        names = ", ".join(f"g{n}" for n in range(generators))
        blocks = [f"recgen.g{n}={{generator: stable_diffusion}}" for n in range(generators)]
        found = estimator([f"recgen.generators=[{names}]", *blocks], sizes=SIZES)
        return found.cost("evaluate", "evaluate").seconds

    assert summary(12) == pytest.approx(18.3, rel=0.2) and 0.6 < summary(2) < 1.1


def test_the_published_rate_of_a_gpu_is_kept():
    """50 steps of a batch of 16 on an A100: 3.04 iterations a second, and the VAE."""
    a100 = machines.Machine(1.0, 1, machines.gpu("a100"))
    images, steps = 160, 50
    effort = Effort(images=images, evaluations=2 * steps * images)
    seconds = costs.drawing(effort, SD15, 0.0, 0.0, 16, a100)
    sampling = images / 16 * steps / 3.04
    assert sampling < seconds < 1.2 * sampling
    xl = costs.drawing(effort, SDXL, 0.0, 0.0, 16, a100)
    assert images / 16 * steps / 0.64 < xl < 1.2 * images / 16 * steps / 0.64


def test_a_gpu_without_numbers_is_refused():
    with pytest.raises(UserError, match=r"--gpu 4080: .*expected a100"):
        machines.gpu("4080")
    assert machines.gpu("RTX 4090") is machines.GPUS["4090"]
    assert all(gpu.source and gpu.rates for gpu in machines.GPUS.values())


def test_the_probe_keeps_as_many_cores_busy_as_the_run_will(monkeypatch):
    seen, work, before = [], machines._round, len(psutil.Process().children())

    def look(*given):
        blas = {each["num_threads"] for each in threadpool_info() if each["user_api"] == "blas"}
        assert blas == {1}, "threads of its own would wait for the others' cores"
        seen.append(len(psutil.Process().children()) - before)
        work(*given)

    monkeypatch.setattr(machines, "_round", look)
    monkeypatch.setattr(machines, "_PROBE", 0.05)
    with threadpool_limits(2, "blas"):  # make test has one from the start
        assert machines.probe(3) > 0
    assert set(seen) == {2}
    assert len(psutil.Process().children()) == before, "they are gone when it is done"
    assert machines.probe() > 0 and seen[-1] == 0


def test_what_keeps_cores_busy_ends_though_the_program_is_killed():
    program = "from recgen.planning import machines; machines._PROBE = 60.0; machines.probe(2)"
    killed = subprocess.Popen([sys.executable, "-c", program])
    while not (busy := psutil.Process(killed.pid).children()):
        assert killed.poll() is None
        time.sleep(0.01)
    killed.kill()
    killed.wait()
    gone, alive = psutil.wait_procs(busy, timeout=30)
    assert gone and not alive


def test_trainings_follow_the_keys():
    assert training("MICRO", {"epochs": 7}).epochs == 7
    assert training("MICRO").at_most == 1_000 and training("MICRO").epochs == 100
    assert training("Verifier", {"epochs": 9}, {"epochs": 4}).epochs == 4, "later keys win"
    assert training("LightGCN").at_most == 300, "RecBole's"


def test_networks_are_told_apart(tiny_diffusion, tiny_xl):
    assert diffusion_network("demo-sd") is DEMO
    assert diffusion_network("stabilityai/stable-diffusion-xl-base-1.0") is SDXL
    assert diffusion_network("stable-diffusion-v1-5/stable-diffusion-v1-5") is SD15
    tiny = diffusion_network(str(tiny_diffusion))
    assert tiny.edge == 128 and tiny.parameters < 1e6 and tiny.evaluation < DEMO.evaluation
    assert diffusion_network(str(tiny_xl)).parameters < 1e6


def test_endpoints_cost_tokens_and_money(tmp_path):
    block = "{url: 'https://host/v1', model: m, workers: 5, price_per_million_tokens: {input: 2, output: 10}}"
    found = estimator([f"recgen.keywords.endpoint={block}"]).cost("features", "features/keywords")
    assert found.tokens == (50 * 120, 50 * 8 * 6)
    assert found.money == pytest.approx((6_000 * 2 + 2_400 * 10) / 1e6)


def test_the_vision_language_judge_costs_tokens_and_money_a_generator():
    block = "{url: 'https://host/v1', model: m, workers: 5, price_per_million_tokens: {input: 2, output: 10}}"
    changes = [f"recgen.metrics.vlm={{endpoint: {block}, liked: 3, requests: 7}}"]
    judged, plain = estimator(changes), estimator([])
    found = judged.cost("evaluate", "evaluate/ip_adapter_mean")
    assert found.tokens == (2 * 7 * (120 + 5 * 300), 2 * 7 * 6)
    assert found.money == pytest.approx((found.tokens[0] * 2 + found.tokens[1] * 10) / 1e6)
    control = judged.cost("evaluate", "evaluate/swapped.ip_adapter_mean")
    assert control == plain.cost("evaluate", "evaluate/ip_adapter_mean") and control.tokens == (0, 0)
    assert found.seconds > control.seconds


def test_memory_counts_weights_by_their_type():
    def backbone(*overrides):
        found = memory.tasks(load_config("pog", overrides), SIZES, True)
        (task,) = (each for each in found if each.task == "generate/stable_diffusion")
        return next(item.gib for item in task.items if item.what.startswith("backbone"))

    whole = backbone("recgen.precision=float32")
    assert whole == pytest.approx(SD15.parameters * 4 / 2**30)
    assert backbone("recgen.precision=bfloat16") == pytest.approx(whole / 2)


def test_a_plan_says_what_every_task_takes_and_which_cards_suffice():
    config = load_config("pog")
    found = memory.tasks(config, SIZES, True)
    cards = {card: memory.fits(config, SIZES, card) for card in (8, 24, 40)}
    work = [PlannedTask("generator.fit/pmg", False, Cost("fit pmg", 60.0))]
    told = text(Plan(work, SIZES, ONE, found, 1.0, cards=cards))
    most = memory.largest(found)
    assert most.task == "generator.fit/pmg"
    assert f"generator.fit/pmg      60 s                     {most.gib:.1f} GiB" in told
    assert (
        f"memory   {most.gib:.1f} GiB at most, in generator.fit/pmg: the GPU's own programs 0.60, backbone"
        in told
    )
    assert "40 GB" not in told, "a smaller one suffices"
    assert (
        "GPU      24 GB suffice: " in told and f"GPU      8 GB are too little: {cards[8].task} takes " in told
    )


def test_what_rounds_to_nothing_takes_no_memory_in_a_plan():
    items = (memory.Item("program", 0.57), memory.Item("IP-Adapter", 0.0049), memory.Item("data", 0.0051))
    work = [PlannedTask("generate/a", False, Cost("draw a", 60.0))]
    told = text(Plan(work, SIZES, ONE, [memory.TaskMemory("generate/a", items)], 1.0))
    assert "in generate/a: program 0.57, data 0.01\n" in told


@pytest.mark.parametrize(
    ("workers", "threads", "said"),
    [(1, 1, "one thread"), (1, 4, "4 threads"), (2, 1, "2 processes of one thread")],
)
def test_a_plan_says_what_it_has_of_the_machine(workers, threads, said):
    found = memory.tasks(load_config("pog"), SIZES, False)
    work = [PlannedTask(f"generator.fit/{name}", False, Cost("fit", 40.0)) for name in "ab"]
    told = text(Plan(work, SIZES, machines.Machine(1.0, threads), found, 1.0, workers=workers))
    assert f"time     about {80 // workers} s on this machine, {said}\n" in told


def test_sizes_of_files(dataset, write_config, tmp_path):
    run = RunContext(load_config(str(write_config(tmp_path, requests=5))), tmp_path / "run")
    found = forecast.sizes(run)
    assert found is not None
    rows = [line.split("\t") for line in (dataset / "tiny.inter").read_text().splitlines()[1:]]
    likes = sum(float(row[2]) >= 4 for row in rows)
    assert (found.users, found.items, found.interactions, found.likes) == (12, 30, len(rows), likes)
    assert found.requests == 5


def test_sizes_of_a_log_that_is_not_read_whole(dataset, write_config, tmp_path, monkeypatch):
    monkeypatch.setattr(counting, "_READ", (dataset / "tiny.inter").stat().st_size // 3)
    found = forecast.sizes(RunContext(load_config(str(write_config(tmp_path))), tmp_path / "run"))
    assert found is not None and 0.8 < found.interactions / 168 < 1.25


def test_a_data_set_that_is_not_here_has_no_estimate(write_config, tmp_path):
    config = write_config(tmp_path)
    plan = session.plan(str(config), str(tmp_path / "run"), [f"data_path={tmp_path / 'none'}"])
    assert plan.sizes is None and plan.left
    assert "time" not in text(plan) and "tasks to do" in plan.line()


def test_blind_requests_are_as_many_as_items_allow():
    config = load_config("simulated", ["recgen.requests={protocol: blind, items: 80, per_item: 3}"])
    assert counting.with_requests(10, 50, 100, 60, config.settings).requests == 150


# ---- what was measured puts estimates right ----


def record(folder, name, kind, seconds, estimated, **changes):
    planned = {**speeds.planned(kind, estimated, "cpu"), **changes}
    write_json(folder / f"stages/{name}.json", {"seconds": seconds, "planned": planned})


def test_earlier_runs_put_estimates_right(tmp_path):
    record(tmp_path / "a", "x", "draw ragar", 30.0, 10.0)
    record(tmp_path / "a", "y", "draw ragar", 10.0, 10.0)
    record(tmp_path / "b", "x", "fit taste", 8.0, 2.0, machine="another")
    record(tmp_path / "b", "z", "report", 8.0, 4.0, device="a100")
    record(tmp_path / "b", "w", "small", 0.5, 0.1)
    assert speeds.factors(tmp_path / "new", "cpu") == {"draw ragar": 2.0}
    record(tmp_path / "new", "x", "draw ragar", 50.0, 10.0)
    assert speeds.factors(tmp_path / "new", "cpu") == {"draw ragar": 5.0}, "its own come first"


def clock_of(*seconds):
    tasks = [PlannedTask(f"t{n}", False, Cost("kind", value)) for n, value in enumerate(seconds)]
    plan = Plan([PlannedTask("done", True, Cost("kind", 9.0)), *tasks], SIZES, ONE, [], 0.0)
    return Clock(plan, {task.name: task.cost for task in tasks}, "cpu")


def test_the_clock_learns_from_what_was_measured():
    clock = clock_of(10, 10, 10)
    assert clock.starting("t0") == "t0: task 2 of 4, about 30 s left"
    clock.finished("t0", 40.0)
    assert clock.starting("t1") == "t1: task 3 of 4, about 80 s left"
    assert clock.record("t1")["planned"]["seconds"] == 10.0, "records compare with the estimate as it was"


def test_what_another_run_has_done_is_not_waited_for():
    clock = clock_of(10, 10, 10)
    clock.taken("t0")
    assert clock.starting("t1") == "t1: task 3 of 4, about 20 s left"


def test_tasks_are_counted_as_they_begin():
    """Side by side they do not begin in the plan's order; one that is begun again, in another process, is the same one."""
    clock = clock_of(10, 10, 10)
    said = [clock.starting(name).partition(",")[0] for name in ("t2", "t0", "t2", "t1")]
    assert said == ["t2: task 2 of 4", "t0: task 3 of 4", "t2: task 3 of 4", "t1: task 4 of 4"]


def test_a_run_says_its_plan_and_records_it(write_config, tmp_path, caplog, monkeypatch):
    monkeypatch.setattr(
        "recgen.planning.speeds._SURE", 0.0
    )  # the tiny data are read in less than what is sure
    config, folder = str(write_config(tmp_path)), str(tmp_path / "runs/one")
    session.run(config, folder, until="dataset")
    said = [message.message for message in caplog.records if message.name == "recgen"]
    assert any(line.startswith("Plan: ") and "images to draw" in line for line in said)
    assert any(line.startswith("dataset: task 1 of ") and line.endswith("left") for line in said)
    other = session.plan(config, str(tmp_path / "runs/two"))
    record = json.loads((tmp_path / "runs/one/stages/dataset.json").read_text())
    assert 0 < record["cpu_seconds"] < 100 * record["seconds"] and 0.1 < record["peak_memory_gib"] < 100
    assert "dataset" in other.measured, "a run beside it knows how long reading the data takes here"
    assert session.plan(config, folder).sizes is not None


def test_the_command(write_config, tmp_path):
    config, out = str(write_config(tmp_path, generators=["stable_diffusion"])), str(tmp_path / "run")
    told = CliRunner().invoke(
        cli.recgen, ["plan", "--config", config, "--out", out, "--gpu", "a100", "--price", "36"]
    )
    assert told.exit_code == 0, told.output
    for part in ("tasks would be done", "one NVIDIA A100", "GiB", "money", "diffusers' documentation"):
        assert part in told.output
    assert not (tmp_path / "run").exists()


def test_a_plan_needs_no_torch():
    code = (
        "import sys; from recgen.pipeline import session; from recgen.planning.plan import text;"
        "text(session.plan('demo')); print(sorted({'torch', 'diffusers', 'transformers'} & sys.modules.keys()))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_market_is_its_trainings_and_its_creatives():
    one = estimator(["recgen.market={rounds: 1, seeds: 1, controls: [], negative_control: false}"])
    more = estimator(["recgen.market={rounds: 3, seeds: 1, controls: [], negative_control: false}"])
    small, large = one.cost("market", "market"), more.cost("market", "market")
    assert small.images == large.images == 3 * 40 * 20, (
        "three generators, two pages' items a user, drawn once"
    )
    training = one._training("VBPR", 0.8, one.settings.downstream.settings).seconds
    assert large.seconds - small.seconds == pytest.approx(2 * 5 * training), (
        "an A/B test and the worlds of four arms"
    )


def test_a_damaged_table_is_no_obstacle(tmp_path):
    import pandas as pd

    for name, column in (("interactions", "like"), ("items", "item_id"), ("requests", "item_id")):
        (tmp_path / "dataset").mkdir(exist_ok=True)
        table = pd.DataFrame({"user_id": ["a", "b"], "item_id": ["x", "y"], column: [True, False]})
        table.to_parquet(tmp_path / f"dataset/{name}.parquet")
    assert counting.of_tables(tmp_path) == Sizes(2, 2, 2, 1, 2)
    whole = (tmp_path / "dataset/items.parquet").read_bytes()
    for damaged in (whole[:-9], b"", whole[:40] + b"\xff" * 20 + whole[60:]):
        (tmp_path / "dataset/items.parquet").write_bytes(damaged)
        assert counting.of_tables(tmp_path) in (None, Sizes(2, 2, 2, 1, 2))
    (tmp_path / "dataset/items.parquet").write_bytes(whole[:-9])
    assert counting.of_tables(tmp_path) is None
