"""Compile our Triton kernels for an H200 on a machine without one; print what each needs.

Run as a script, without Triton's interpreter: ``python tests/profilers/hopper.py [all]``. Each
kernel is compiled with the first of its configurations, with ``all`` with every one; the last
column says how many bytes of registers spill. A kernel's own wrapper is called with tensors of
the host, and its launch replaced by the compiler.
"""

import itertools
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import torch
import triton
from triton.backends.compiler import GPUTarget
from triton.backends.nvidia import compiler as nvidia
from triton.runtime import driver
from triton.runtime.jit import JITFunction

from profilers.kernels import (
    cache_write,
    copy_pages,
    elementwise,
    fused_moe,
    grouped_experts,
    latent_decode,
    latent_prefill,
    paged_decode,
    paged_prefill,
    quantize,
    route,
)

SHARED = 232448  # bytes of shared memory of a program, H200 (CUDA programming guide, table 21)
B16, E4M3, INT = torch.bfloat16, torch.float8_e4m3fn, torch.int32


class _NoGpu:
    """As much of a driver as compiling asks for."""

    launcher_cls = None

    def get_current_target(self):
        return GPUTarget("cuda", 90, 32)

    def get_current_device(self):
        return 0

    def get_current_stream(self, _device=None):
        return 0


def _spilled(ptx):
    with tempfile.NamedTemporaryFile("w", suffix=".ptx") as file:
        file.write(ptx)
        file.flush()
        ptxas = Path(nvidia.__file__).parent / "bin" / "ptxas"
        command = [ptxas, "-v", "--gpu-name=sm_90a", file.name, "-o", "/dev/null"]
        said = subprocess.run(command, capture_output=True, text=True, check=True).stderr
    return int(re.search(r"(\d+) bytes spill stores", said)[1])


def _compile_instead_of_launching():
    driver.set_active(_NoGpu())
    launch, seen = JITFunction.run, set()

    def run(self, *args, grid, warmup, **options):
        made = launch(self, *args, grid=grid, warmup=True, **options)
        if made.hash not in seen:
            seen.add(made.hash)
            spilled = _spilled(made.asm["ptx"])
            print(f"{self.fn.__name__}\t{made.metadata.shared}\t{spilled}\t{options}", flush=True)
        return made

    JITFunction.run = run


def _attention(some):
    pages, lengths = torch.empty(4, 17, dtype=INT), torch.empty(4, dtype=INT)
    starts = torch.empty(5, dtype=INT)
    for dim, narrow in itertools.product(some((128, 64, 256)), (B16, E4M3)):
        q, cache = torch.empty(4, 16, dim, dtype=B16), torch.empty(8, 16, 8, dim, dtype=narrow)
        for config, longest in itertools.product(some(paged_decode.CONFIGS[dim]), (64, 4096)):
            paged_decode.paged_decode(q, cache, cache, pages, lengths, 1.0, 0, config, longest)
        for config in (*some(paged_prefill.CONFIGS[dim]), *some(paged_prefill.SHORT)):
            paged_prefill.paged_prefill(
                q, cache, cache, pages, starts, lengths, 1.0, 0, config, 512
            )
    cache_write.write_cache(q, q, cache, cache, torch.empty(4, dtype=torch.int64))


def _latent(some):
    pages, lengths = torch.empty(4, 17, dtype=INT), torch.empty(4, dtype=INT)
    choices = ((16, latent_decode.FEW), (128, latent_decode.MANY))
    for (heads, configs), narrow in itertools.product(choices, (B16, E4M3)):
        q, cache = torch.empty(4, heads, 576, dtype=B16), torch.empty(8, 64, 576, dtype=narrow)
        for config, longest in itertools.product(some(configs), (64, 8192)):
            latent_decode.latent_decode(q, cache, pages, lengths, 1.0, 512, config, longest)
    cache_write.write_latent(q[:, 0], cache, torch.empty(4, dtype=torch.int64))
    q, v = torch.empty(64, 16, 192, dtype=B16), torch.empty(64, 16, 128, dtype=B16)
    for config in some(latent_prefill.CONFIGS):
        latent_prefill.latent_prefill(q, q, v, torch.empty(3, dtype=INT), 1.0, 128, config, 512)


def _experts(some):
    tokens, topk, experts, hidden, inter = 64, 8, 64, 1024, 512
    x = torch.empty(tokens, hidden, dtype=B16)
    space = route.Workspace.of(tokens, topk, experts, x.device)
    route.route(torch.empty(tokens, experts), space)
    narrow, scale = quantize.quantize_tokens(x)
    first, second = (2 * inter, hidden), (hidden, inter)

    def weights(dtype, *shrunk):
        shapes = [(experts, n // a, k // b) for (n, k), (a, b) in shrunk]
        return [torch.empty(s, dtype=dtype) for s in shapes]

    wide = grouped_experts.Experts(*weights(B16, (first, (1, 1)), (second, (1, 1))))
    scaled = grouped_experts.Experts(
        *weights(E4M3, (first, (1, 1)), (second, (1, 1))),
        *weights(torch.float32, (first, (128, 128)), (second, (128, 128))),
    )
    packed = grouped_experts.Experts(
        *weights(torch.uint8, (first, (1, 2)), (second, (1, 2))),
        *weights(torch.uint8, (first, (1, 32)), (second, (1, 32))),
    )
    for table, own, a, a_scale in (
        (fused_moe.WIDE, wide, x, None), (fused_moe.SCALED, scaled, narrow, scale),
        (fused_moe.PACKED, packed, x, None),
    ):  # fmt: skip
        for rows, (firsts, seconds) in some(tuple(table.items())):
            for tiles in (route.gather(space, rows), *([None] if rows == 16 else [])):
                for config in some(firsts):
                    h, h_scale = grouped_experts.gate_up(
                        a, a_scale, own, space, tiles, config, rows
                    )
                for config in some(seconds):
                    y = grouped_experts.down(h, h_scale, own, space, tiles, config, rows)
    grouped_experts.sum_experts(y, space)


def _memory(_some):
    x, w = torch.empty(8, 4096, dtype=B16), torch.empty(4096, dtype=B16)
    elementwise.rms_norm(x, w, 1e-6)
    elementwise.add_rms_norm(x, x, w, 1e-6)
    elementwise.silu_and_mul(x)
    elementwise.quantize_static(x, torch.empty(1))
    pages = torch.empty(8, 1024, dtype=torch.int64)
    copy_pages.copy_pages(pages, pages, torch.empty(8, dtype=torch.int64), near=True)


if __name__ == "__main__":
    every = sys.argv[1:] == ["all"]
    paged_decode.processors = lambda _device: 132  # so that keys are split as on an H200
    _compile_instead_of_launching()
    for kernels in (_attention, _latent, _experts, _memory):
        kernels((lambda configs: configs) if every else (lambda configs: configs[:1]))
    print(f"done\twith Triton {triton.__version__}")
