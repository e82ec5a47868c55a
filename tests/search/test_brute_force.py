"""The disaggregated search against every prefill point beside every decode point, one by one."""

import numpy as np
import pytest

from aiconf.api import search
from aiconf.search.search import search as closed_form
from aiconf.search.workers import decode_workers, prefill_workers
from aiconf.serving.disaggregated import MAX_UTILISATION, prefill_wait, transfer_seconds


def best_rate(request):
    """Highest request rate within the targets over x prefill and y decode workers of any kind."""
    (platform,), gpus, work, sla = request.platforms, request.gpus, request.workload, request.sla
    specs = list(request.specs)
    prefill = prefill_workers(request.prefill_platforms[0], specs, gpus - 1, work, request.kv_dtype)
    decode = decode_workers(platform, specs, gpus - 1, work, request.kv_dtype)
    near = gpus <= platform.system.nvlink_domain
    host = platform.traits.host
    outside = host.outside(work.isl) + host.seconds_per_handover
    weights = np.array([v.spec.checkpoint for v in decode.variants])[decode.variant]
    held = np.array([v.kv_bytes for v in decode.variants])[decode.variant]
    best = 0.0
    for p in range(len(prefill.rate)):
        source = prefill.variants[prefill.variant[p]]
        transfer = transfer_seconds(
            platform.system, platform.system, np.maximum(source.kv_bytes, held), near=near
        )
        for x in range(1, int(gpus // prefill.gpus[p]) + 1):
            left = gpus - x * prefill.gpus[p]
            for y in range(1, int(left // decode.gpus.min()) + 1):
                load = y * decode.rate / (x * prefill.rate[p])
                ok = (y * decode.gpus <= left) & (load <= MAX_UTILISATION)
                ok &= (decode.tpot <= sla.tpot) & (weights == source.spec.checkpoint)
                wait = prefill_wait(np.minimum(load, 0.99), float(prefill.seconds[p]), float(x))
                ttft = wait + prefill.seconds[p] + transfer + decode.tpot + outside
                ok &= ttft <= sla.ttft
                if ok.any():
                    # A unit may be replicated: as often as the GPUs hold it.
                    used = x * prefill.gpus[p] + y * decode.gpus[ok]
                    rate = y * decode.rate[ok] * np.floor(gpus / used)
                    best = max(best, float(rate.max()))
    return best


@pytest.mark.parametrize(
    ("task", "backend"),
    [
        (("QWEN3_32B", "h200_sxm", 4, 4000, 500, 600, 15), "vllm"),
        (("QWEN3_32B", "h200_sxm", 7, 4000, 500, 400, 12), "trtllm"),
        (("QWEN3_32B", "h200_sxm", 6, 4000, 500, 300, 10), "sglang"),
        (("gpt-oss-120b", "b200_sxm", 5, 2000, 300, 300, 10), "sglang"),
    ],
)
def test_no_pair_is_better_than_the_one_that_is_found(task, backend):
    result = search(*task, backend=backend, mode="disagg")
    found = closed_form(result.request)  # before a winner gives way to what its replay shows
    assert found.met
    assert found.best is not None
    assert found.best.value("request_rate") == pytest.approx(best_rate(result.request), rel=1e-9)
