"""Result files of benchmark clients, turned into the cells of a measured row."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

Record = Mapping[str, Any]
Cells = dict[str, str]


@dataclass(frozen=True)
class Form:
    """One form of results: the keys that tell it, and how its records become rows."""

    title: str
    keys: frozenset[str]
    rows: Callable[[list[Record]], list[Cells]]


def records_form(records: list[Record]) -> Form | None:
    """Return the form whose keys the first record has."""
    return next((form for form in FORMS if form.keys <= set(records[0])), None)


def _cells(**values: object) -> Cells:
    """Cells without those that are not stated."""
    return {name: str(value) for name, value in values.items() if value not in (None, "")}


def _times(record: Record, ttft: tuple[str, str, str], tpot: str, scale: float = 1.0) -> Cells:
    names = ("ttft_ms_mean", "ttft_ms_p50", "ttft_ms_p99", "tpot_ms_mean")
    pairs = zip(names, (*ttft, tpot), strict=True)
    found = {name: record.get(key) for name, key in pairs}
    return _cells(**{name: float(v) * scale for name, v in found.items() if v is not None})


_CLIENT_TTFT = ("mean_ttft_ms", "median_ttft_ms", "p99_ttft_ms")
_FRAMEWORKS = {"trt": "trtllm", "trtllm": "trtllm", "vllm": "vllm", "sglang": "sglang"}


def _inferencex(records: list[Record]) -> list[Cells]:
    return [_inferencex_row(record) for record in records]


def _inferencex_row(record: Record) -> Cells:
    """InferenceX states its deployment; times are in seconds, rates per GPU."""
    spread = bool(record.get("disagg"))
    framework = str(record.get("framework", "")).lower().removeprefix("dynamo-")
    if spread:
        sides = [_inferencex_side(record, side) for side in ("prefill", "decode")]
        outputs = _whole(record.get("num_decode_gpu"))
        gpus = _whole(record.get("num_prefill_gpu")) + outputs
        layout = _cells(prefill_config=sides[0], decode_config=sides[1])
    else:
        gpus = outputs = _whole(record.get("tp")) * max(_whole(record.get("pp")), 1)
        layout = _cells(tp=record.get("tp"), pp=record.get("pp"), ep=record.get("ep"))
    attention = str(record.get("dp_attention", "false")).lower()
    per_gpu, every = record.get("output_tput_per_gpu"), record.get("tput_per_gpu")
    times = _times(record, ("mean_ttft", "median_ttft", "p99_ttft"), "mean_tpot", 1e3)
    return layout | times | _cells(
        source="InferenceX result",
        hardware=_hardware(str(record.get("hw", ""))),
        num_gpus=gpus or None,
        backend=_FRAMEWORKS.get(framework, framework),
        backend_version=_image_version(str(record.get("image", ""))),
        model=record.get("model"),
        precision=record.get("precision"),
        serving_mode="disagg" if spread else "agg",
        isl=record.get("isl"),
        osl=record.get("osl"),
        length_range=0.8,
        concurrency_or_rate=record.get("conc"),
        output_tok_per_s=None if per_gpu is None else per_gpu * outputs,
        total_tok_per_s=None if every is None else every * gpus,
        notes=f"dp_attention={attention}",
    ) | {"mtp/spec": str(record.get("spec_decoding", ""))}  # fmt: skip


def _inferencex_side(record: Record, side: str) -> str:
    def value(name: str) -> object:
        return record.get(f"{side}_{name}", "")

    attention = str(value("dp_attention")).lower()
    return (
        f"workers={value('num_workers')};tp={value('tp')};ep={value('ep')};"
        f"dp_attn={attention};gpus={record.get(f'num_{side}_gpu', '')}"
    )


def _hardware(text: str) -> str:
    """``b200-nv`` is the GPU b200; the system is found by the start of its name."""
    from aiconf.errors import UserError
    from aiconf.system import load_system

    try:
        return load_system(re.split(r"[-_ ]", text.strip())[0]).gpu.name
    except UserError:
        return text


def _image_version(image: str) -> str:
    found = re.search(r":v?(\d+\.\d+[\w.]*)", image)
    return found.group(1) if found else ""


def _whole(value: object) -> int:
    return int(value) if isinstance(value, (int, float)) else 0


def _client(records: list[Record]) -> list[Cells]:
    """Rows of ``vllm bench serve``."""
    rows = []
    for record in records:
        sent = _whole(record.get("completed")) or _whole(record.get("num_prompts"))
        rows.append(
            _times(record, _CLIENT_TTFT, "mean_tpot_ms")
            | _cells(
                source="vllm bench serve",
                model=record.get("model_id"),
                isl=_mean(record.get("total_input_tokens"), sent),
                osl=_mean(record.get("total_output_tokens"), sent),
                length_range=_spread(record.get("input_lens"), record.get("output_lens")),
                concurrency_or_rate=_load(
                    record.get("max_concurrency"), record.get("request_rate")
                ),
                output_tok_per_s=record.get("output_throughput"),
                total_tok_per_s=record.get("total_token_throughput"),
                requests=sent or None,
            )
        )
    return rows


def _sglang(records: list[Record]) -> list[Cells]:
    """Rows of SGLang's bench_serving; without a range ratio it draws lengths from 1 to L."""
    rows = []
    for record in records:
        random = str(record.get("dataset_name", "random")).startswith("random")
        sent = _whole(record.get("completed"))
        isl = record.get("random_input_len") if random else None
        osl = record.get("random_output_len") if random else None
        rows.append(
            _times(record, _CLIENT_TTFT, "mean_tpot_ms")
            | _cells(
                source="SGLang bench_serving",
                model=record.get("model_id") or record.get("model"),
                isl=isl or _mean(record.get("total_input_tokens"), sent),
                osl=osl or _mean(record.get("total_output_tokens"), sent),
                length_range=record.get("random_range_ratio", 0.0) if random else None,
                concurrency_or_rate=_load(
                    record.get("max_concurrency"), record.get("request_rate")
                ),
                output_tok_per_s=record.get("output_throughput"),
                total_tok_per_s=record.get("total_throughput"),
                requests=sent or None,
            )
        )
    return rows


def _mean(total: object, count: int) -> float | None:
    return float(total) / count if isinstance(total, (int, float)) and count else None


def _spread(*lengths: object) -> float | None:
    """Fixed lengths (all within 5 %) are 1; others are not described by a range."""
    for each in lengths:
        if not isinstance(each, list) or not each or min(each) < 0.95 * max(each):
            return None
    return 1.0


def _load(users: object, rate: object) -> str:
    """A limit on requests in flight is a closed loop; else the rate, infinite for a burst."""
    if users:
        return str(users)
    if rate in (None, ""):
        return ""
    return "burst" if str(rate) == "inf" else f"rate={rate}"


def _aiperf(records: list[Record]) -> list[Cells]:
    """Rows of AIPerf's summary: statistics of each metric, and its own settings."""
    return [_aiperf_row(record) for record in records]


def _aiperf_row(record: Record) -> Cells:
    def value(metric: str, statistic: str = "avg") -> float | None:
        found = record.get(metric) or {}
        return found.get(statistic) if isinstance(found, Mapping) else None

    settings = record.get("input_config") or {}
    models = (settings.get("models") or {}).get("items") or [{}]
    phase = (settings.get("phases") or [{}])[-1]
    fixed = [value(f"{side}_sequence_length", "min") == value(f"{side}_sequence_length", "max")
             for side in ("input", "output")]  # fmt: skip
    return _cells(
        source="AIPerf",
        model=models[0].get("name"),
        isl=value("input_sequence_length"),
        osl=value("output_sequence_length"),
        length_range=1.0 if all(fixed) else None,
        concurrency_or_rate=_load(
            phase.get("concurrency"), phase.get("request_rate") or phase.get("rate")
        ),
        ttft_ms_mean=value("time_to_first_token"),
        ttft_ms_p50=value("time_to_first_token", "p50"),
        ttft_ms_p99=value("time_to_first_token", "p99"),
        tpot_ms_mean=value("inter_token_latency"),
        output_tok_per_s=value("output_token_throughput"),
        total_tok_per_s=value("total_token_throughput"),
        requests=_whole(value("request_count")) or None,
    )


def _aiperf_requests(records: list[Record]) -> list[Cells]:
    """One row of AIPerf's request records: their statistics over the profiling phase."""
    import numpy as np

    kept = [r for r in records if r["metadata"].get("benchmark_phase", "profiling") == "profiling"]

    def values(metric: str) -> list[float]:
        found = (record["metrics"].get(metric) or {} for record in kept)
        return [float(one["value"]) for one in found if "value" in one]

    first, between = values("time_to_first_token"), values("inter_token_latency")
    prompts, outputs = values("input_sequence_length"), values("output_sequence_length")
    begun = [r["metadata"]["request_start_ns"] for r in kept]
    ended = [r["metadata"]["request_end_ns"] for r in kept]
    seconds = (max(ended) - min(begun)) / 1e9 if kept else 0.0
    return [
        _cells(
            source="AIPerf requests",
            isl=np.mean(prompts) if prompts else None,
            osl=np.mean(outputs) if outputs else None,
            length_range=_spread(prompts, outputs),
            ttft_ms_mean=np.mean(first) if first else None,
            ttft_ms_p50=np.percentile(first, 50) if first else None,
            ttft_ms_p99=np.percentile(first, 99) if first else None,
            tpot_ms_mean=np.mean(between) if between else None,
            output_tok_per_s=sum(outputs) / seconds if seconds > 0 else None,
            total_tok_per_s=(sum(prompts) + sum(outputs)) / seconds if seconds > 0 else None,
            requests=len(kept) or None,
        )
    ]


FORMS = (
    Form("InferenceX result JSON", frozenset({"hw", "conc", "framework", "isl"}), _inferencex),
    Form(
        "vllm bench serve JSON",
        frozenset({"endpoint_type", "mean_ttft_ms", "total_token_throughput"}),
        _client,
    ),
    Form(
        "SGLang bench_serving JSONL",
        frozenset({"mean_ttft_ms", "total_throughput", "completed"}),
        _sglang,
    ),
    Form("AIPerf JSON", frozenset({"aiperf_version", "time_to_first_token"}), _aiperf),
    Form("AIPerf JSONL", frozenset({"metadata", "metrics"}), _aiperf_requests),
)
