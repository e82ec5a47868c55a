"""Plans made by hand for the tests of deployment."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from aiconf.model.spec import (
    Attention,
    DenseFfn,
    LayerGroup,
    ModelSpec,
    MoeFfn,
    Quantization,
)
from aiconf.parallel import Parallel
from aiconf.serving.plan import Plan, Role, Worker
from aiconf.system.spec import Gpu, System
from aiconf.workload import Workload

GPU = Gpu("H200", 90, 141e9, 4.8e12, {"bf16": 989e12}, 132, 700.0, 3.0)
H200 = System("h200_sxm", GPU, 8, 8, 4.5e11, 1e-6, 5e10, 5e-6, 5e10, 1e9, {})
GB200 = System("gb200", GPU, 4, 72, 9e11, 1e-6, 5e10, 5e-6, 5e10, 1e9, {})
_ATTENTION = Attention("gqa", 64, 8, 128, 128)


def _model(name: str, checkpoint: str, ffn: DenseFfn | MoeFfn) -> ModelSpec:
    layers = (LayerGroup(64, _ATTENTION, ffn),)
    return ModelSpec(
        name, checkpoint, "Qwen3ForCausalLM", 5120, 151936, layers, 40960, Quantization("fp8")
    )


DENSE = _model("Qwen3-32B-FP8", "Qwen/Qwen3-32B-FP8", DenseFfn(25600))
MOE = _model("Qwen3-235B-A22B", "Qwen/Qwen3-235B-A22B", MoeFfn(128, 8, 384))

LAYOUTS = {
    "vllm": ["tp1", "tp2pp2", "tp8", "tp16", "tp8pp2", "dp8ep8", "tp2dp4ep8", "dp16ep16", "tp4dp4"],
    "sglang": ["tp1", "tp2pp2", "tp8", "tp16", "tp8pp2", "dp8ep8", "tp2dp4ep4", "dp16ep16"],
    "trtllm": ["tp1", "tp2pp2", "tp8", "tp16", "tp8pp2", "dp8ep8", "dp8ep2", "dp16ep16"],
}


def worker(role: Role = "agg", layout: str = "tp2", **changes: object) -> Worker:
    """Return a worker; ``changes`` replace fields."""
    parallel = Parallel.parse(layout if layout.startswith("tp") else f"tp1{layout}")
    base = Worker(
        role=role,
        replicas=2,
        system=H200,
        parallel=parallel,
        max_sequences=48,
        token_budget=8192,
        max_model_len=5120,
        kv_dtype="fp8",
        kv_block_size=64,
        memory_fraction=0.9,
        graph_sizes=() if role == "prefill" else (1, 2, 4, 8, 16, 32, 64, 128, 256, 512),
        prefix_caching=True,
    )
    return replace(base, **changes)  # type: ignore[arg-type]


def plan(backend: str = "vllm", *workers: Worker, model: ModelSpec | None = None) -> Plan:
    """Return a plan of ``workers``; experts make the model a mixture of experts."""
    workers = workers or (worker(),)
    moe = any(one.parallel.dp > 1 or one.parallel.ep > 1 for one in workers)
    model = model or (MOE if moe else DENSE)
    return Plan(model, backend, "0.24.0", Workload(4000, 1000), workers, 64)


def many_plans() -> list[Plan]:
    """Return plans over backends, layouts, modes, systems and precisions."""
    plans = []
    for backend, layouts in LAYOUTS.items():
        for number, layout in enumerate(layouts):
            common = {
                "kv_dtype": ("fp8", "bf16")[number % 2],
                "prefix_caching": number % 3 > 0,
                "system": (H200, GB200)[number % 2],
            }
            plans.append(plan(backend, worker("agg", layout, **common)))
            decode = worker("decode", layout, **common)
            # SGLang decodes in several stages only behind as many.
            ahead = layout if backend == "sglang" and "pp" in layout else layouts[0]
            plans.append(plan(backend, worker("prefill", ahead, **common), decode))
            plans.append(plan(backend, decode, worker("prefill", layout, **common)))
    return plans


REFERENCE_PLANNER = (
    Path(__file__).resolve().parents[3] / "shared" / "dynamo" / "results" / "planner_profile"
)

__all__ = [
    "DENSE", "GB200", "H200", "LAYOUTS", "MOE", "REFERENCE_PLANNER", "many_plans", "plan", "worker",
]  # fmt: skip
