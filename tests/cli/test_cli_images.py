"""Images on the command line: what is said about them, and what is refused in one line."""

import csv
import io
import json

import pytest

ESTIMATE = ["estimate", "--model", "Qwen3-VL-8B", "--system", "h200_sxm", "--layout", "tp1"]
SEARCH = ["cli", "--model", "Qwen3-VL-8B", "--system", "h200_sxm", "--total-gpus", "2",
          "--isl", "500", "--osl", "100"]  # fmt: skip
SIMULATE = ["simulate", *ESTIMATE[1:], "--concurrency", "4"]
IMAGES = ["--images", "2", "--image-size", "1280x960"]


def test_an_estimate_names_text_images_and_the_time_of_the_tower(aiconf):
    code, out, _ = aiconf(*ESTIMATE, "--isl", "500", "--osl", "100", *IMAGES)
    assert code == 0
    assert "500 input + 2400 of 2 x 1280x960 images + 100 output tokens" in out
    assert "vision tower" in out
    assert "CPU" in out


def test_json_keeps_what_was_asked_and_adds_the_images(aiconf):
    words = ["--isl", "500", "--osl", "100", "--format", "json"]
    shown, plain = (
        json.loads(aiconf(*ESTIMATE, *words, *more)[1])["inputs"] for more in (IMAGES, [])
    )
    assert (shown["isl"], shown["images"]["count"], shown["images"]["tokens"]) == (500, 2, 1200)
    assert "images" not in plain


def test_a_search_with_images_is_slower_and_says_so(aiconf):
    def best(*more):
        _, out, _ = aiconf(*SEARCH, "--format", "json", *more)
        return json.loads(out)["best"]["output_tok_per_s_per_gpu"]

    assert best(*IMAGES) < 0.6 * best()


def test_aiperf_names_the_count_otherwise(aiconf):
    same = [
        aiconf(*ESTIMATE, word, "2", "--image-size", "640x480", "--format", "csv")[1]
        for word in ("--images", "--image-batch-size")
    ]
    assert same[0] == same[1]


def test_a_replay_names_the_images(aiconf):
    code, out, _ = aiconf(*SIMULATE, "--isl", "500", "--osl", "20", *IMAGES)
    assert code == 0
    assert "2 images of 1280x960 (2,400 tokens)" in out


def test_rows_of_a_file_have_images_of_their_own(aiconf, tmp_path):
    source = tmp_path / "rows.csv"
    source.write_text("images,image_size\n0,\n1,1280x960\n4,1280x960\n2,huge\n")
    code, out, _ = aiconf(*ESTIMATE, "--isl", "500", "--osl", "100", "--from", source)
    rows = list(csv.DictReader(io.StringIO(out)))
    times = [float(row["ttft_ms"]) for row in rows[:3]]
    assert times == sorted(times) and times[2] > 2 * times[0]
    assert code == 2
    assert rows[3]["reason"].startswith("image size 'huge' must be WIDTHxHEIGHT")


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ([*ESTIMATE, "--images", "2", "--image-size", "large"],
         "image size 'large' must be WIDTHxHEIGHT in pixels, like 1024x1024"),
        ([*ESTIMATE, "--images", "1", "--image-size", "0x0"], "sides must be 1 to 100,000 pixels"),
        ([*ESTIMATE, "--images", "-1"], "images must be a whole number of at least 0, not -1"),
        ([*ESTIMATE, "--images", "two"], "'two' is not a whole number"),
        ([*ESTIMATE, "--image-size", "64x64"], "is of no image: give --images too"),
        ([*ESTIMATE, "--images", "500"], "exceed the 262144 that Qwen3-VL-8B-Instruct-FP8"),
        ([*ESTIMATE, *IMAGES, "--prefix", "4000"], "prefix 4000 must be shorter than isl 4000"),
        ([*SEARCH, *IMAGES, "--model", "qwen3-32b"], "Qwen3-32B-FP8 takes no images"),
        ([*SIMULATE, *IMAGES, "--model", "gemma-4-31b"], "takes no images: it has no vision tower"),
        ([*SEARCH, *IMAGES, "--backend", "sglang", "--mode", "disagg"],
         "Dynamo serves images with SGLang by aggregated workers only"),
        ([*ESTIMATE, *IMAGES, "--backend", "sglang", "--prefill-layout", "tp1"],
         "Dynamo serves images with SGLang by aggregated workers only"),
        ([*SEARCH, "--image-width", "640"], "give --images N --image-size WIDTHxHEIGHT"),
    ],
)  # fmt: skip
def test_one_line(aiconf, words, says):
    code, out, err = aiconf(*words)
    assert (code, out) == (2, "")
    assert says in err
    assert err.count("\n") == 1


def test_a_planner_is_refused_for_images(aiconf, tmp_path):
    code, _, err = aiconf(*SEARCH, *IMAGES, "--planner", "--save-dir", tmp_path / "out")
    assert code == 2
    assert "the planner's profile is of prompts of text alone" in err
    assert not (tmp_path / "out").exists()
