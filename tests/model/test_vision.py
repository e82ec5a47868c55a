"""Vision towers: how images are cut, what the towers weigh and compute, how configs are read."""

import json
from dataclasses import replace

import pytest

from aiconf.errors import UserError
from aiconf.model import load_model
from aiconf.model.checkpoint import read_config
from aiconf.model.memory import checkpoint_bytes, parameters, weight_bytes
from aiconf.model.operators import Collective, Gemm
from aiconf.model.traffic import Asked
from aiconf.model.vision import splits, vision_parameters
from aiconf.model.vision_operators import vision_flops, vision_operators
from aiconf.parallel import Parallel

QWEN = load_model("Qwen3-VL-8B").vision
KIMI = load_model("Kimi-K2.5").vision
GEMMA = load_model("gemma-3-4b").vision

TEXT = {
    "hidden_size": 256, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "head_dim": 64, "intermediate_size": 512, "vocab_size": 1000,
    "max_position_embeddings": 4096,
}  # fmt: skip
VISION = {
    "depth": 3, "hidden_size": 128, "num_heads": 4, "intermediate_size": 300, "patch_size": 16,
    "spatial_merge_size": 2, "temporal_patch_size": 2, "out_hidden_size": 256,
    "num_position_embeddings": 64, "deepstack_visual_indexes": [1],
}  # fmt: skip


def config(vision=VISION, **more):
    return {
        "architectures": ["Qwen3VLForConditionalGeneration"],
        "text_config": TEXT,
        "vision_config": vision,
    } | more


@pytest.mark.parametrize(
    ("tower", "width", "height", "tokens"),
    [
        (QWEN, 1280, 960, 40 * 30),  # sgl-project/sglang issue 18784: 20 of them are 24,000 tokens
        (QWEN, 1024, 768, 32 * 24),
        (QWEN, 1280, 720, 40 * 22),  # 22.5 rounds to the even number, as Python's round does
        (QWEN, 10, 10, 64),  # enlarged to 256 x 256 pixels
        (QWEN, 8192, 8192, 128 * 128),  # shrunk to 4096 x 4096
        (KIMI, 1024, 1024, 37 * 37),  # padded up to multiples of 28
        (KIMI, 28, 28, 1),  # never enlarged
        (KIMI, 29, 28, 2),
        (KIMI, 14 * 600, 14, 256),  # at most 512 patches along a side
        (GEMMA, 100, 3000, 256),  # every image is made 896 x 896 and pooled
    ],
)
def test_tokens_of_an_image(tower, width, height, tokens):
    assert tower.tokens(tower.patches(width, height)) == tokens


@pytest.mark.parametrize("tower", [QWEN, KIMI], ids=["qwen", "kimi"])
@pytest.mark.parametrize("size", [(1, 1), (333, 1777), (4000, 3000), (9999, 7777), (12000, 100)])
def test_patches_are_within_the_limits_and_joined_without_rest(tower, size):
    patches = tower.patches(*size)
    assert patches % tower.merge**2 == 0
    # One unit of padding per side may go beyond Kimi's limit.
    assert tower.limits.least <= patches <= tower.limits.most * 1.05


def test_a_strip_that_the_processor_refuses():
    with pytest.raises(ValueError, match="differ by more than 200 times"):
        QWEN.patches(30000, 100)


def test_flops_are_two_per_weight_and_patch_plus_pairs():
    patches, tower = 4800, QWEN
    blocks = vision_parameters(replace(tower, mergers=0, positions=0))
    pairs = 4.0 * patches**2 * tower.heads * tower.head_dim * tower.layers
    mergers = tower.mergers * 2.0 * (tower.joined**2 + tower.joined * tower.out) * patches / 4
    assert vision_flops(tower, patches) == pytest.approx(
        2.0 * blocks * patches + pairs + mergers, rel=0.002
    )


def test_ranks_share_the_tower_where_its_heads_divide():
    assert splits(QWEN, 8)
    assert not splits(QWEN, 6)
    whole, shared, apart = (vision_operators(QWEN, tp) for tp in (1, 8, 6))
    assert (whole.heads, shared.heads, apart.heads) == (16, 2, 16)
    assert not any(isinstance(one, Collective) for one in (*whole.patch, *apart.patch))
    assert sum(o.count for o in shared.patch if isinstance(o, Collective)) == 2 * QWEN.layers

    def weights(run):
        return sum(o.n * o.k * o.count for o in (*run.patch, *run.token) if isinstance(o, Gemm))

    pixels = 3 * QWEN.frames * QWEN.patch**2 * QWEN.hidden  # whole on every rank
    assert weights(shared) - pixels == pytest.approx((weights(whole) - pixels) / 8, rel=1e-3)


def test_the_projector_of_kimi_is_whole_on_every_rank():
    alone, shared = vision_operators(KIMI, 1), vision_operators(KIMI, 4)
    assert [o for o in alone.token if isinstance(o, Gemm)] == [
        o for o in shared.token if isinstance(o, Gemm)
    ]


def test_the_tower_counts_in_memory_on_the_first_stage_alone():
    spec = load_model("Qwen3-VL-8B", "bf16")
    text = replace(spec, vision=None)
    tower = vision_parameters(spec.vision)
    assert parameters(spec) - parameters(text) == tower
    assert checkpoint_bytes(spec) - checkpoint_bytes(text) == 2 * tower
    assert weight_bytes(spec, Parallel()) - weight_bytes(text, Parallel()) == 2 * tower
    split = Parallel(tp=4)
    each = weight_bytes(spec, split) - weight_bytes(text, split)
    assert 2 * tower / 4 < each < 2 * tower / 3.5


def test_a_config_is_read_with_its_tower():
    spec = read_config(config())
    tower = spec.vision
    assert (tower.layers, tower.head_dim, tower.mergers, tower.out) == (3, 32, 2, 256)
    assert tower.limits == QWEN.limits
    assert not any("vision" in note for note in spec.notes)


def test_an_embedded_file_agrees_with_the_config_of_its_family():
    figures = {
        "depth": 27, "hidden_size": 1152, "num_heads": 16, "intermediate_size": 4304,
        "patch_size": 16, "spatial_merge_size": 2, "temporal_patch_size": 2,
        "out_hidden_size": 4096, "num_position_embeddings": 2304,
        "deepstack_visual_indexes": [8, 16, 24],
    }  # fmt: skip
    assert read_config(config(figures)).vision == QWEN


def test_a_tower_whose_patches_are_pooled_is_read():
    siglip = {
        "hidden_size": 1152, "num_attention_heads": 16, "num_hidden_layers": 27,
        "intermediate_size": 4304, "patch_size": 14, "image_size": 896,
    }  # fmt: skip
    text = TEXT | {"sliding_window": 512, "sliding_window_pattern": 2, "hidden_size": 2560}
    figures = {
        "architectures": ["Gemma3ForConditionalGeneration"], "text_config": text,
        "vision_config": siglip, "mm_tokens_per_image": 256,
    }  # fmt: skip
    assert read_config(figures).vision == GEMMA
    with pytest.raises(UserError, match="64 x 64 patches of an image that become 250 tokens"):
        read_config(figures | {"mm_tokens_per_image": 250})


def test_the_image_processor_beside_a_config_sets_the_limits(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps(config()))
    beside = {"size": {"shortest_edge": 4096, "longest_edge": 262144}}
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(beside))
    limits = read_config(tmp_path).vision.limits
    assert (limits.least, limits.most) == (16, 1024)


@pytest.mark.parametrize(
    ("beside", "says"),
    [
        ({"size": {"longest_edge": "big"}}, "'longest_edge' must be a positive number: big"),
        ({"size": {"longest_edge": 100}}, "images of 256 to 0 patches of 16 pixels cannot be"),
        ({"min_pixels": -1}, "'min_pixels' must be a positive number: -1"),
    ],
)
def test_an_image_processor_that_cannot_be(tmp_path, beside, says):
    (tmp_path / "config.json").write_text(json.dumps(config()))
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(beside))
    with pytest.raises(UserError, match=says):
        read_config(tmp_path)


@pytest.mark.parametrize("size", [896, None, {"height": 3}])
def test_an_image_processor_that_says_nothing_of_limits(tmp_path, size):
    (tmp_path / "config.json").write_text(json.dumps(config()))
    (tmp_path / "preprocessor_config.json").write_text(json.dumps({"size": size}))
    assert read_config(tmp_path).vision.limits == QWEN.limits


@pytest.mark.parametrize(
    ("vision", "says"),
    [
        (VISION | {"deepstack_visual_indexes": 3}, "'deepstack_visual_indexes' must be a list"),
        (VISION | {"patch_size": 0}, "'patch_size' must be a whole number of at least 1"),
        (3, "'vision_config' is missing or not an object"),
    ],
)
def test_a_tower_that_cannot_be(vision, says):
    with pytest.raises(UserError, match=says):
        read_config(config(vision))


def test_an_unknown_tower_is_said_to_be_left_out():
    spec = read_config(config() | {"architectures": ["Mistral3ForConditionalGeneration"]})
    assert spec.vision is None
    assert any("vision weights are not counted" in note for note in spec.notes)


def test_heads_that_do_not_divide_are_an_error():
    with pytest.raises(UserError, match="vision hidden_size 130 is not a multiple of num_heads 4"):
        read_config(config(VISION | {"hidden_size": 130}))


def test_images_come_in_addition_to_the_text():
    work = Asked(500, 100, 50, 2, "1280x960").of(load_model("Qwen3-VL-8B"))
    assert (work.isl, work.text, work.new_tokens) == (2900, 500, 2850)
    assert (work.images.count, work.images.tokens, work.patches) == (2, 1200, 4800)
    assert Asked(500, 100, 50).of(load_model("Qwen3-VL-8B")).images is None


@pytest.mark.parametrize(
    ("asked", "says"),
    [
        (Asked(500, 10, 0, 1, "big"), "image size 'big' must be WIDTHxHEIGHT in pixels"),
        (Asked(500, 10, 0, 1, "0x10"), "sides must be 1 to 100,000 pixels"),
        (Asked(500, 10, 0, 1, "300000x10"), "sides must be 1 to 100,000 pixels"),
        (Asked(500, 10, 0, 1, "30000x100"), "differ by more than 200 times"),
        (Asked(500, 10, 0, -1), "images must be a whole number of at least 0"),
        (Asked(500, 10, 0, 0, "10x10"), "image size 10x10 is of no image: give --images too"),
        (Asked(500, 10, 500, 1, "64x64"), "prefix 500 must be shorter than isl 500"),
    ],
)
def test_images_that_cannot_be(asked, says):
    with pytest.raises(UserError, match=says):
        asked.of(load_model("Qwen3-VL-8B"))


def test_a_model_without_a_tower_takes_no_images():
    with pytest.raises(UserError, match="Qwen3-32B-FP8 takes no images"):
        Asked(500, 10, 0, 1).of(load_model("Qwen3-32B"))
