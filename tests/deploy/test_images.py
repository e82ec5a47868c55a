"""Deployments for requests with images: what workers and the benchmark are told."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import pytest
from deploy_plans import plan, worker

from aiconf.deploy.dgd import build
from aiconf.deploy.jobs import measure
from aiconf.deploy.options import Options
from aiconf.deploy.read.manifest import asked_lengths
from aiconf.deploy.validate.check import check
from aiconf.deploy.versions import releases
from aiconf.deploy.write import manifest
from aiconf.errors import UserError
from aiconf.manifests import predicted, read_manifest
from aiconf.model import load_model
from aiconf.model.traffic import Asked

ASKED = Asked(500, 100, 0, 3, "1280x960")
WORDS = {
    "vllm": ("--enable-multimodal", "--limit-mm-per-prompt", "--mm-encoder-tp-mode"),
    "sglang": ("--enable-multimodal", "--limit-mm-data-per-request"),
    "trtllm": ("--modality",),
}


def shown(backend="vllm", *workers, model="Qwen/Qwen3-VL-8B-Instruct-FP8", asked=ASKED):
    spec = load_model(model)
    workers = workers or (worker("agg", "tp2", max_model_len=4272, kv_dtype="bf16"),)
    return replace(plan(backend, *workers, model=spec), workload=asked.of(spec))


def told(one, **options):
    return manifest(build(one, Options(**options)))


@pytest.mark.parametrize("release", releases())
@pytest.mark.parametrize("backend", WORDS)
def test_workers_are_told_of_images_in_every_release(backend, release, tmp_path):
    text = told(shown(backend), dynamo=release)
    for word in WORDS[backend]:
        assert f"- {word}\n" in text
    plain = replace(shown(backend), workload=replace(ASKED, images=0, image_size=None).of(
        load_model("Qwen3-VL-8B")))  # fmt: skip
    assert not any(word in told(plain, dynamo=release) for word in WORDS[backend])


@pytest.mark.parametrize("release", ["1.0.2", "1.6.1"])
@pytest.mark.parametrize("backend", WORDS)
def test_what_is_written_is_valid(backend, release, tmp_path):
    path = tmp_path / "deploy.yaml"
    path.write_text(told(shown(backend), dynamo=release))
    assert not check([path], release).problems


def test_the_largest_image_is_the_one_of_the_workload():
    assert '{"image":{"count":3,"width":1280,"height":960},"video":0}' in told(shown())


def test_kimi_calls_an_image_a_vision_chunk():
    wide = worker("agg", "tp8", kv_block_size=16, max_model_len=6000, max_sequences=1)
    one = shown("vllm", wide, model="nvidia/Kimi-K2.5-NVFP4")
    assert '{"vision_chunk":3}' in told(one)


def test_the_benchmark_sends_the_images_through_chat():
    words = measure(shown(), "http://host:8000")
    flags = dict(pairwise(words))
    assert flags["--endpoint-type"] == "chat"
    assert (flags["--isl"], flags["--image-batch-size"]) == ("500", "3")
    assert (flags["--image-width-mean"], flags["--image-height-mean"]) == ("1280", "960")
    assert "--image-batch-size" not in measure(plan(), "http://host:8000")


def test_notes_say_what_images_bring_along():
    notes = build(shown("sglang"), Options()).notes
    said = " ".join(notes)
    assert "3 images of 1280x960 (3,600 tokens)" in said
    assert "there is no encode worker" in said
    assert "image URLs alone" in said
    assert "Each request holds" not in " ".join(build(plan(), Options()).notes)


def test_images_come_back_from_the_annotations(tmp_path):
    path = tmp_path / "deploy.yaml"
    one = shown()
    path.write_text(told(one))
    asked = asked_lengths(path)
    assert Asked(**asked) == ASKED
    reading = read_manifest(path, **asked)
    assert reading.plan.workload == one.workload
    text = predicted(read_manifest(path, one.workload.isl, 100), 4)
    images = predicted(reading, 4)
    assert images.best["ttft_ms"] > text.best["ttft_ms"] + 10


@pytest.mark.parametrize(
    ("backend", "told_by", "instead"),
    [
        ("vllm", "--mm-encoder-tp-mode\n                - weights",
         "--mm-encoder-tp-mode\n                - data"),
        ("sglang", "--enable-multimodal", "--enable-multimodal\n                - "
         "--mm-enable-dp-encoder"),
    ],
)  # fmt: skip
def test_how_ranks_share_the_tower_is_read_back(backend, told_by, instead, tmp_path):
    text = told(shown(backend))
    found = []
    for name, body in (("a.yaml", text), ("b.yaml", text.replace(told_by, instead))):
        (tmp_path / name).write_text(body)
        reading = read_manifest(tmp_path / name, 500, 100, images=3, image_size="1280x960")
        assert not [note for note in reading.notes if "mm-" in note]
        found.append(predicted(reading, 4).best["ttft_ms"])
    assert text.count(told_by) == 1
    assert found[0] != found[1]


@pytest.mark.parametrize(
    ("key", "value", "says"),
    [
        ("aiconf/images", '"three"', "annotation aiconf/images: 'three' is not a whole number"),
        ("aiconf/image-size", '"big"', "annotation aiconf/image-size: image size 'big' must be"),
    ],
)
def test_annotations_that_are_none_are_refused(key, value, says, tmp_path):
    path = tmp_path / "deploy.yaml"
    lines = told(shown()).splitlines()
    lines = [f"    {key}: {value}" if one.strip().startswith(f"{key}:") else one for one in lines]
    path.write_text("\n".join(lines))
    with pytest.raises(UserError, match=says):
        asked_lengths(path)
