"""Tags: their union, the tagger against the simulator's true attributes, a model that sees, a service, and what is kept."""

from __future__ import annotations

import base64
import io
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from pydantic import ValidationError

from recgen.config.schema import Settings
from recgen.config.text_models import TagSettings
from recgen.core.compat import prepare_torchvision
from recgen.core.seeding import numpy_rng
from recgen.data.simulation.attributes import SIZES, Attributes
from recgen.data.simulation.renderer import render
from recgen.features import tags
from recgen.features.captioner import Captioner
from recgen.features.encoders import Encoder, load_encoder
from recgen.features.item_keywords import clean
from recgen.features.prompts import image_tags_prompt, item_prompt, text_tags_prompt
from recgen.features.tags import union
from recgen.stages.features import tag_items

PRECISION = RECALL = 0.97


class Words:
    """Stands in the language model's place and names every word of the text."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def complete(self, prompts: list[str], max_new_tokens: int) -> list[str]:
        self.asked += prompts
        return [", ".join(prompt.split("Text: ")[1].split(".")[0].split()) for prompt in prompts]


@pytest.fixture(scope="module")
def encoder() -> Encoder:
    return load_encoder("demo-clip")


@pytest.fixture(scope="module")
def looks() -> list[Attributes]:
    rng = numpy_rng(0, "test/tags")
    return [Attributes(*rng.integers(SIZES).tolist()) for _ in range(100)]


def make_run(
    folder: Path, encoder: Encoder, looks: list[Attributes], texts: list[str], **settings: Any
) -> Any:
    """A run of as many items as `looks`, and one more, without an image, where there are more texts."""
    (folder / "p").mkdir(exist_ok=True)
    for n, look in enumerate(looks):
        render(look, n).save(folder / f"p/{n}.png")
    paths = [f"p/{n}.png" if n < len(looks) else None for n in range(len(texts))]
    items = pd.DataFrame({"item_id": [f"i{n}" for n in range(len(texts))], "text": texts, "image": paths})
    images = encoder.images([render(look, n) for n, look in enumerate(looks)])
    return SimpleNamespace(
        folder=folder, items=items, settings=Settings(**settings),
        models=SimpleNamespace(encoder=encoder, device="cpu", language_model=Words()),
        config=SimpleNamespace(source="x.yaml"), features=lambda kind: ([f"i{n}" for n in range(len(looks))], images),
    )  # fmt: skip


def read(run: Any) -> pd.DataFrame:
    (path,) = tag_items(run)
    return pd.read_parquet(path).set_index("item_id")


def test_the_union_keeps_each_tag_once() -> None:
    assert union(("skull", "red"), ("horror", "red"), ("war",)) == ["skull", "red", "horror", "war"]
    assert union((), ()) == union() == []


def test_the_taggers_tags_are_the_true_attributes(tmp_path, encoder, looks) -> None:
    run = make_run(tmp_path, encoder, looks, ["The Night"] * len(looks))
    found = [set(each) for each in read(run)["image"]]
    true = [set(look.words) for look in looks]
    hits = sum(len(a & b) for a, b in zip(found, true, strict=True))
    assert hits / sum(map(len, found)) >= PRECISION and hits / sum(map(len, true)) >= RECALL


def test_an_items_tags_are_of_image_and_text(tmp_path, encoder) -> None:
    look = Attributes(11, 0, 4, 3)
    run = make_run(tmp_path, encoder, [look], ["war skull", "only words", ""])
    table = read(run)
    assert list(table.index) == ["i0", "i1"], "an item with neither image nor text has no row"
    assert list(table.loc["i0", "tags"]) == ["skull", "red", "navy", "dots", "war"]
    assert list(table.loc["i0", "text"]) == ["war", "skull"] and list(table.loc["i1", "tags"]) == [
        "only",
        "words",
    ]
    assert run.models.language_model.asked == [
        item_prompt("", text, 8) for text in ("war skull", "only words")
    ]
    tag_items(run)
    assert len(run.models.language_model.asked) == 2, "answers are kept"


def test_at_most_n_tags_of_each(tmp_path, encoder) -> None:
    table = read(make_run(tmp_path, encoder, [Attributes(11, 0, 4, 3)], ["a b c d"], tags={"n": 2}))
    assert list(table.loc["i0", "tags"]) == ["skull", "red", "a", "b"]


def test_each_domain_is_asked_about_what_matters_there() -> None:
    asked = {domain: image_tags_prompt(domain, 7) for domain in ("general", "movie", "news", "outfit")}
    assert len(set(asked.values())) == 4 and all("at most 7" in prompt for prompt in asked.values())
    assert "season" in asked["outfit"] and "place" in asked["news"] and "poster" in asked["movie"]
    texts = {domain: text_tags_prompt(domain, "A tale", 7) for domain in asked}
    assert len(set(texts.values())) == 4 and all(
        "A tale" in prompt and "at most 7" in prompt for prompt in texts.values()
    )
    assert texts["general"] == item_prompt("", "A tale", 7), "the one question that the shipped model knows"


@pytest.fixture(scope="module")
def llava(tmp_path_factory) -> Path:
    """The folder of a tiny LLaVA with random weights and a chat template, in the real one's format."""
    prepare_torchvision()
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import (
        CLIPImageProcessor,
        LlavaConfig,
        LlavaForConditionalGeneration,
        LlavaProcessor,
        PreTrainedTokenizerFast,
    )

    folder = tmp_path_factory.mktemp("llava")
    pieces = [
        "<pad>",
        "<s>",
        "</s>",
        "<unk>",
        "<image>",
        "USER",
        "ASSISTANT",
        *(f"word{n}" for n in range(40)),
    ]
    core = Tokenizer(models.WordLevel({piece: n for n, piece in enumerate(pieces)}, unk_token="<unk>"))
    core.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=core, bos_token="<s>", eos_token="</s>", pad_token="<pad>", unk_token="<unk>",
        extra_special_tokens={"image_token": "<image>"},
    )  # fmt: skip
    template = (
        "{% for m in messages %}USER {% for c in m['content'] %}"
        "{% if c['type'] == 'image' %}<image> {% else %}{{ c['text'] }} {% endif %}{% endfor %}{% endfor %}ASSISTANT"
    )
    LlavaProcessor(
        CLIPImageProcessor(size={"shortest_edge": 28}, crop_size={"height": 28, "width": 28}), tokenizer, patch_size=14,
        vision_feature_select_strategy="default", chat_template=template, num_additional_image_tokens=1,
    ).save_pretrained(folder)  # fmt: skip
    size = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    torch.manual_seed(0)
    config = LlavaConfig(
        vision_config={"model_type": "clip_vision_model", **size, "image_size": 28, "patch_size": 14},
        text_config={
            "model_type": "llama", **size, "vocab_size": len(pieces), "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0,
            "initializer_range": 0.5,
        },
        image_token_index=4,
    )  # fmt: skip
    LlavaForConditionalGeneration(config).save_pretrained(folder)
    return folder


def test_a_vision_language_model_is_asked_and_its_question_is_not_its_answer(
    llava, tmp_path, encoder, monkeypatch
) -> None:
    looks = [Attributes(1, 0, 0, 0), Attributes(2, 5, 4, 3), Attributes(2, 5, 4, 3)]
    run = make_run(tmp_path, encoder, looks, ["a", "a", "a"], tags={"image": str(llava)})
    table, model = read(run), Captioner(str(llava))
    question = image_tags_prompt("general", 8)
    alone = [model.describe([tmp_path / f"p/{n}.png"], question)[0] for n in range(3)]
    assert alone == model.describe([tmp_path / f"p/{n}.png" for n in range(3)], question) and any(alone)
    processor = model.processor
    turn = [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": question}]}]
    prompt = processor.apply_chat_template(turn, add_generation_prompt=True)
    inputs = processor(images=[render(looks[0], 0)], text=[prompt], return_tensors="pt")
    asked = inputs["input_ids"].shape[1]
    whole = model.model.generate(**inputs, max_new_tokens=64, do_sample=False)[:, asked:]
    assert alone[0] == " ".join(processor.batch_decode(whole, skip_special_tokens=True)[0].split())
    assert [list(tags_) for tags_ in table["image"]] == [clean(answer, 8) for answer in alone]
    monkeypatch.setattr(tags, "Captioner", None)
    assert read(run).equals(table), "answers are kept"


@pytest.fixture
def service() -> Iterator[SimpleNamespace]:
    """A chat service that answers with what it was shown: the colour of an image's middle, or the text's first word."""
    bodies: list[dict[str, Any]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            bodies.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            content = bodies[-1]["messages"][0]["content"]
            if isinstance(content, list):
                data = base64.b64decode(
                    content[1]["image_url"]["url"].removeprefix("data:image/jpeg;base64,")
                )
                red, _, blue = Image.open(io.BytesIO(data)).convert("RGB").getpixel((5, 5))
                answer = "warm, big" if red > blue else "cold, small"
            else:
                answer = content.split()[1]
            message = json.dumps({"choices": [{"message": {"content": answer}}]}).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(message)))
            self.end_headers()
            self.wfile.write(message)

        def log_message(self, *_: Any) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    yield SimpleNamespace(url=f"http://127.0.0.1:{server.server_port}/v1", bodies=bodies)
    server.shutdown()
    server.server_close()


def test_a_service_sees_the_images(service, tmp_path, encoder) -> None:
    run = make_run(
        tmp_path, encoder, [Attributes(1, 0, 0, 0)] * 2, ["war film", "love story"],
        tags={"image": "endpoint", "domain": "movie", "endpoint": {"url": service.url, "model": "m", "workers": 1}},
    )  # fmt: skip
    for n, colour in enumerate(("red", "blue")):
        Image.new("RGB", (900, 30), colour).save(tmp_path / f"p/{n}.png")
    table = read(run)
    assert [list(each) for each in table["tags"]] == [["warm", "big", "war"], ["cold", "small", "love"]]
    shown = [
        body["messages"][0]["content"]
        for body in service.bodies
        if isinstance(body["messages"][0]["content"], list)
    ]
    assert shown[0][0]["text"] == image_tags_prompt("movie", 8) and not run.models.language_model.asked
    tag_items(run)
    assert len(service.bodies) == 4, "no answer is paid for twice"
    Image.new("RGB", (30, 30), "blue").save(tmp_path / "p/0.png")
    assert list(read(run).loc["i0", "image"]) == ["cold", "small"], "another image is another question"


def test_an_endpoint_without_an_address_is_a_mistake() -> None:
    with pytest.raises(ValidationError, match="endpoint"):
        TagSettings(image="endpoint")
    with pytest.raises(ValidationError):
        TagSettings(domain="music")


def test_tags_of_a_run_are_the_same_whatever_the_order(tmp_path, encoder, looks) -> None:
    few = looks[:12]
    run = make_run(tmp_path, encoder, few, ["a"] * 12)
    table = read(run)
    rows = np.arange(12)[::-1]
    ids, images = run.features("image")
    run.features = lambda kind: ([ids[row] for row in rows], images[rows])
    assert read(run).equals(table)
