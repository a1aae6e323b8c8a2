"""The report says what metrics.json says, to anyone, from one file."""

import base64
import doctest
import hashlib
import json
import re
from urllib.parse import unquote

import pandas as pd
import pytest
from report_page import by_id, read
from report_run import HOSTILE, ITEMS, USERS, make_run, metrics_of

from recgen.core.errors import UserError
from recgen.metrics.registry import METRICS, lookup
from recgen.report import build, compare, gallery, tables, text
from recgen.report.run_files import RunFiles


def rows(table):
    return {row.attributes["data-metric"]: row for row in table.all("tr") if "data-metric" in row.attributes}


def test_the_headline_table_has_every_number_of_metrics_json(three):
    folder, _, page = three
    creatives, table = metrics_of(folder)["creatives"], rows(by_id(page, "headline"))
    for position, (generator, measured) in enumerate(creatives.items()):
        for key, estimate in measured.items():
            cell = table[key].all("td")[position]
            assert cell.value == estimate["value"], (generator, key)
            assert f"n {estimate['n']}" in cell.text
            assert text.interval(estimate["low"], estimate["high"], lookup(key).digits) in cell.text
    assert [cell.text for cell in by_id(page, "headline").all("thead")[0].all("th")] == ["Metric", *creatives]


def test_the_best_of_a_row_is_bold_where_a_direction_exists(three):
    folder, _, page = three
    creatives, table = metrics_of(folder)["creatives"], rows(by_id(page, "headline"))
    best = max(creatives, key=lambda name: creatives[name]["cis"]["value"])
    bold = [
        name
        for name, cell in zip(creatives, table["cis"].all("td"), strict=True)
        if cell.has("class_", "best")
    ]
    assert bold == [best]
    assert not any(cell.has("class_", "best") for cell in table["over_optimisation_gap"].all("td"))
    assert not any(cell.has("class_", "best") for cell in table["cmmd"].all("td"))  # all three equal


def test_a_metric_that_is_not_available_says_why(three):
    assert (
        "not available: its weights are not here; copy them" in rows(by_id(three[2], "headline"))["fid"].text
    )


def test_the_downstream_table_has_results_and_paired_differences(three):
    folder, _, page = three
    stored = metrics_of(folder)
    tests = {test["a"]: test for test in stored["tests"]["paired"] if test["b"] == "ORI"}
    lines = by_id(page, "downstream-table").all("tbody")[0].all("tr")
    assert [line.all("th")[0].text for line in lines] == ["ORI", "rebeca", "ip_adapter", "folder"]
    for line in lines:
        source, (result, change) = line.all("th")[0].text, line.all("td")
        assert result.value == stored["downstream"][source]["ndcg@10"]["value"]
        if source != "ORI":
            assert (
                change.value == tests[source]["difference"]
                and text.p_value(tests[source]["p_holm"]) in change.text
            )


def test_a_test_stored_the_other_way_round_is_turned(run):
    stored = metrics_of(run)
    (test,) = (test for test in stored["tests"]["paired"] if test["b"] == "ORI")
    turned = {"difference": -test["difference"], "low": -test["high"], "high": -test["low"]}
    (before,) = tables.downstream(stored)[1][1].changes
    assert before.value == test["difference"]
    stored["tests"]["paired"] = [{**test, **turned, "a": "ORI", "b": "rebeca"}]
    (after,) = tables.downstream(stored)[1][1].changes
    assert (after.value, after.interval, after.p) == (before.value, before.interval, before.p)


def test_paired_tests_between_generators_are_listed(three):
    folder, _, page = three
    stored = [test for test in metrics_of(folder)["tests"]["paired"] if test["b"] != "ORI"]
    lines = by_id(page, "paired").all("tbody")[0].all("tr")
    assert [line.value for line in lines] == [test["difference"] for test in stored]


def test_compared_runs_stand_side_by_side_on_a_page_of_their_own(three, tmp_path):
    folder, other, report = three
    page = read(compare([folder, other], tmp_path / "both.html"))
    table = by_id(page, "compare-table")
    values = [cell.value for cell in rows(table)["cis"].all("td")]
    both = [*metrics_of(folder)["creatives"].values(), *metrics_of(other)["creatives"].values()]
    assert values == [measured["cis"]["value"] for measured in both]
    heads = [head.text for head in table.all("thead")[0].all("th")][:2]
    assert heads == [f"{folder.parent.name}/toy", f"{other.parent.name}/toy"]  # both folders are called toy
    assert not any(part.has("id", "compare-table") for part in report.all("table"))
    links = [link.attributes["href"] for link in page.all("a")]
    assert [(tmp_path / unquote(link)).resolve() for link in links] == [(folder / "report.html").resolve()]


def test_runs_of_different_data_are_not_passed_off_as_comparable(tmp_path):
    first, second = make_run(tmp_path / "a"), make_run(tmp_path / "b")
    stored = metrics_of(second)
    stored["run"]["dataset"] = "another"
    (second / "metrics.json").write_text(json.dumps(stored))
    page = read(compare([first, second], tmp_path / "both.html"))
    section = next(part for part in page.all("section") if part.has("aria-label", "Runs compared"))
    assert (
        "Data set" in section.text and "another" in section.text and "comparable only where" in section.text
    )


def test_the_gallery_is_seeded_not_chosen(run):
    def drawn() -> list[str]:
        return [card.user for card in gallery.cards(RunFiles.read(run)) if not card.worst]

    stored, shown = metrics_of(run), drawn()
    assert len(shown) == len(set(shown)) == 22  # recgen.gallery of the run's config.yaml
    assert shown == drawn()
    assert shown != sorted(shown, key=lambda user: int(user[1:]))
    stored["run"]["seed"] = 6
    (run / "metrics.json").write_text(json.dumps(stored))
    assert shown != drawn()


def test_the_worst_cases_are_those_that_fall_furthest_beyond_the_ones_drawn(run):
    cards = gallery.cards(RunFiles.read(run))
    drawn, worst = ([card for card in cards if card.worst is kind] for kind in (False, True))
    table = pd.read_parquet(run / "per_request.parquet").set_index("user_id")
    falls = (table["rank_creative_judge"] - table["rank_original_judge"]).drop([card.user for card in drawn])
    expected = falls[falls > 0].sort_values(ascending=False).head(4)
    assert [-card.creatives[0].gain for card in worst] == expected.tolist()
    page = read(build(run))
    assert len(page.all("article", class_="worst")) == len(worst)
    manifest = pd.read_parquet(run / "creatives/manifest.parquet")
    manifest.assign(recipe='{"prompt": "a red ship"}').to_parquet(run / "creatives/manifest.parquet")
    assert "a red ship" in read(build(run)).all("details", class_="recipe")[0].text


def found_place(shown):
    return int(re.search(r"place (\d+)", shown.text).group(1))


def test_gallery_captions_give_places_from_one(run):
    table = pd.read_parquet(run / "per_request.parquet").set_index("user_id")
    cards = read(build(run)).all("article", class_="card")
    assert len(cards) > 22
    for card in cards:
        row = table.loc[re.search(r"user (u\d+)", card.all("h3")[0].text).group(1)]
        own, made = card.all("ul", class_="pair")[0].all("li")
        before, after = int(row["rank_original_judge"]), int(row["rank_creative_judge"])
        assert [found_place(own), found_place(made)] == [before + 1, after + 1]
        word = (
            "stays"
            if after == before
            else f"rises {before - after}"
            if after < before
            else f"falls {after - before}"
        )
        assert word in made.text


def test_the_history_strip_is_the_latest_items_and_may_be_empty(tmp_path):
    run = make_run(tmp_path / "run", without_history=(4,), without_image=tuple(range(20, 40)))
    (run / "config.yaml").write_text("recgen: {gallery: 30}")
    cards = {card.user: card for card in gallery.cards(RunFiles.read(run))}
    assert len(cards) == USERS and cards["u4"].history == []
    strip = cards["u14"].history  # likes i15 to i31; none from i20 on has an image
    numbers = [int(re.search(r"number (\d+)", shown.title).group(1)) for shown in strip]
    assert numbers == list(range(24, 32)) and cards["u14"].older == 9
    assert all(shown.uri is None for shown in strip) and cards["u0"].history[0].uri is not None


def test_a_broken_or_missing_creative_leaves_a_gap_not_an_error(run):
    (run / "creatives/images/rebeca/u0.png").write_bytes(b"not an image")
    (run / "creatives/images/rebeca/u1.png").unlink()
    (run / "config.yaml").write_text("recgen: {gallery: 30}")
    cards = gallery.cards(RunFiles.read(run))
    assert {card.user for card in cards if card.creatives[0].uri is None} == {"u0", "u1"}


def test_nothing_is_fetched_from_anywhere(three):
    folder, _, page = three
    for element in page.all():
        for name, value in element.attributes.items():
            if name in ("src", "href", "xlink:href", "action", "data", "srcset", "poster"):
                assert value.startswith(("data:", "#")), f"<{element.tag} {name}={value[:80]!r}>"
    source = (folder / "report.html").read_text(encoding="utf-8")
    assert not re.search(r"@import|url\((?!#)", source) and not page.all("iframe")
    (script,) = page.all("script")
    digest = base64.b64encode(hashlib.sha256("".join(script.children).encode()).digest()).decode()
    policy = next(each.attributes["content"] for each in page.all("meta") if "http-equiv" in each.attributes)
    assert f"script-src 'sha256-{digest}'" in policy and not script.attributes
    addresses = set(re.findall(r"https?://[^\s\"'<>]+", source))
    assert addresses <= {
        "http://www.w3.org/2000/svg",
        "http://www.w3.org/1999/xlink",
    }  # names of XML languages


def test_hostile_texts_are_shown_as_text(tmp_path):
    texts = dict.fromkeys(range(ITEMS), HOSTILE) | {7: "x" * 1_000_000, 8: "word " * 200_000, 9: ""}
    run = make_run(tmp_path / "run", texts=texts, without_history=(4,))
    (run / "config.yaml").write_text("recgen: {gallery: 30}")
    path = build(run)
    page, source = read(path), path.read_text(encoding="utf-8")
    assert path.stat().st_size < 2_000_000
    assert "Nothing on record" in page.text and page.all("span", class_="none")
    assert len(page.all("script")) == 1 and "\x00" not in source and "\u202e" not in source
    titles = {card.all("h3")[0].text for card in page.all("article", class_="card")}
    assert any('<script>alert("x")</script> Amélie & "Ωmega" 映画' in title for title in titles)
    assert max(map(len, titles)) < 200 and any(title.startswith("i9 ") for title in titles)


def test_hostile_names_are_shown_as_text(tmp_path):
    run = make_run(tmp_path / "run", ("<b>bold_b</b>",))
    page = read(build(run))
    assert not page.all("b") and "<b>bold_b</b>" in by_id(page, "headline").text
    titles = [title.text.replace(" ", "") for title in page.all("span", class_="title")]
    assert set(titles) == {"Itsownimage", "<b>bold_b</b>"}


def test_it_can_be_read_without_seeing_it(three):
    page = three[2]
    images = page.all("img")
    assert images and all(image.attributes.get("alt") for image in images)
    drawings = [
        element
        for element in page.all("div")
        if element.all("svg") and element.attributes.get("role") == "img"
    ]
    assert len(drawings) == 6 and sum(len(d.all("svg")) for d in drawings) == len(page.all("svg"))
    assert all(len(drawing.attributes["aria-label"]) > 40 for drawing in drawings)
    for table in page.all("table"):
        assert table.all("th", scope="col") and table.all("tr")
    assert page.all("html")[0].attributes["lang"] == "en"


def test_ids_are_unique_and_every_link_inside_the_page_leads_somewhere(three):
    page = three[2]
    ids = [element.attributes["id"] for element in page.all() if "id" in element.attributes]
    assert len(ids) == len(set(ids))
    targets = [
        element.attributes.get("href") or element.attributes.get("xlink:href") for element in page.all()
    ]
    assert {target[1:] for target in targets if target and target.startswith("#")} <= set(ids)
    clips = [
        value for element in page.all() for value in element.attributes.values() if value and "url(#" in value
    ]
    assert {re.search(r"url\(#([^)]+)\)", clip).group(1) for clip in clips} <= set(ids)


def test_the_words_come_from_the_table_of_metrics(run):
    section = next(
        part for part in read(build(run)).all("section") if part.has("aria-labelledby", "reading-title")
    )
    for metric in METRICS:
        assert metric.meaning in section.text and metric.title in section.text


def test_facts_bad_images_and_times_are_there(run):
    page = read(build(run))
    section = next(part for part in page.all("section") if part.has("aria-labelledby", "facts-title"))
    for words in (
        "Data set toy",
        "Seed 5",
        "truncated",
        "posters/i3.jpg",
        "1 min 38 s in all",
        "ranker.judge 1 min 5 s",
    ):
        assert words in section.text


def test_a_run_without_the_optional_files(tmp_path):
    run = make_run(tmp_path / "run", downstream=False)
    for name in ("creatives/embeddings.safetensors", "config.yaml", "dataset/bad_images.json"):
        (run / name).unlink()
    for name in ("ranker", "generator", "stages"):
        for path in (run / name).rglob("*.json"):
            path.unlink()
    stored = metrics_of(run)
    stored = {"creatives": {"rebeca": {"cis": stored["creatives"]["rebeca"]["cis"]}}}
    (run / "metrics.json").write_text(json.dumps(stored))
    table = pd.read_parquet(run / "per_request.parquet")[["user_id", "item_id", "generator", "cis"]]
    table.to_parquet(run / "per_request.parquet")
    page = read(build(run))
    assert page.text.count("Not measured in this run") >= 4
    assert rows(by_id(page, "headline")).keys() == {"cis"}
    assert len(page.all("article", class_="card")) == 24 and "Nothing to plot" in page.text


def test_eight_generators_fold_their_sentences(tmp_path):
    names = tuple(f"generator_{k}" for k in range(8))
    page = read(build(make_run(tmp_path / "run", names)))
    lines = page.all("article", class_="answer")[0].all("details", class_="line")
    assert [line.all("summary")[0].all("span", class_="who")[0].text for line in lines] == list(names)
    assert len(page.all("article", class_="card")[0].all("ul", class_="pair")[0].all("li")) == 9


def test_the_same_run_gives_the_same_bytes_and_no_leftovers(run):
    first = build(run).read_bytes()
    before = {path.name for path in run.iterdir()}
    assert build(run).read_bytes() == first
    assert {path.name for path in run.iterdir()} == before


def test_mistakes_are_named(tmp_path, run):
    with pytest.raises(UserError, match=r"metrics\.json: found no such file"):
        build(tmp_path)
    with pytest.raises(UserError, match=r"metrics\.json: found no such file"):
        compare([run, tmp_path], tmp_path / "both.html")
    (run / "dataset/items.parquet").unlink()
    with pytest.raises(UserError, match=r"items\.parquet"):
        build(run)
    (run / "metrics.json").write_text("{")
    with pytest.raises(UserError, match="broken JSON"):
        build(run)
    (run / "metrics.json").write_text("{}")
    with pytest.raises(UserError, match="no measured creatives"):
        build(run)


def test_text_examples_run():
    result = doctest.testmod(text)
    assert result.failed == 0 and result.attempted >= 7


def test_likeness_by_the_demo_encoder_on_real_images_comes_with_a_warning(run):
    metrics = metrics_of(run)
    for rendered in (False, True):
        metrics["run"] |= {"encoder": "demo-clip", "rendered": rendered}
        (run / "metrics.json").write_text(json.dumps(metrics), encoding="utf-8")
        assert ("Read this with care" in build(run).read_text(encoding="utf-8")) is not rendered


def test_controls_stand_beside_the_generators(three):
    folder, _, page = three
    stored = metrics_of(folder)
    found = {
        row.attributes["data-source"]: row for row in by_id(page, "controls-table").all("tbody")[0].all("tr")
    }
    assert list(found)[:3] == ["rebeca", "rebeca, another user's", "ip_adapter"]
    assert list(found)[-3:] == ["original", "constant", "placebo"]
    risen = stored["controls"]["control.constant"]["risen_judge"]["value"]
    assert found["constant"].all("td")[0].value == risen
    shown = by_id(page, "contrasts").all("tbody")[0].all("tr")
    assert len(shown) == sum(test["difference"] is not None for test in stored["tests"]["contrasts"])
