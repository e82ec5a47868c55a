"""Releases of Dynamo: which are known, what they hold, and how they spell flags."""

from __future__ import annotations

import pytest
from deploy_plans import plan, worker

from aiconf.deploy.dgd import build
from aiconf.deploy.options import Options
from aiconf.deploy.validate.images import unreleased
from aiconf.deploy.versions import engines, released, runtime
from aiconf.deploy.write import manifest
from aiconf.errors import UserError


@pytest.mark.parametrize("patch", sorted(set(released()) - set(engines())))
def test_a_patch_is_written_like_its_series_with_its_own_image(patch):
    series = runtime("vllm", patch.rpartition(".")[0]).dynamo
    sides = worker("prefill", "tp1"), worker("decode", "tp1")
    for backend in ("vllm", "sglang", "trtllm"):
        assert runtime(backend, patch).engine_version == engines()[series][backend]
        texts = [
            manifest(build(plan(backend, *sides), Options(dynamo=one))) for one in (patch, series)
        ]
        assert f"-runtime:{patch}" in texts[0]
        mine = texts[0].replace(f"runtime:{patch}", f"runtime:{series}")
        mine = mine.replace(f"frontend:{patch}", f"frontend:{series}")
        assert mine.replace(f"Dynamo {patch}", f"Dynamo {series}") == texts[1]
    assert unreleased(f"nvcr.io/nvidia/ai-dynamo/vllm-runtime:{patch}") is None


@pytest.mark.parametrize(
    ("release", "says"),
    [
        ("1.4.9", "of 1.4 there are 1.4.2, 1.4.1, 1.4.0"),
        ("2.0", "known: 1.6.1, 1.5.1"),
        ("newest", "known: 1.6.1, 1.5.1"),
    ],
)
def test_an_unknown_release_names_what_there_is(release, says):
    with pytest.raises(UserError, match=f"unknown Dynamo release '{release}': .*{says}"):
        runtime("vllm", release)
