"""Triton's interpreter: our kernels on the CPU, line by line, in NumPy."""

import os

os.environ["TRITON_INTERPRET"] = "1"  # read when a kernel is decorated


def ready():
    """Whether Triton is here; makes its interpreter do what a GPU does.

    Triton 3.6 makes loop bounds of arrays with one element by ``int(array)``, which NumPy refuses
    since 2.4 for arrays that have a dimension. It holds bfloat16 as its bits, and multiplies
    matrices of these as if they were numbers; and it cuts off where a GPU rounds to nearest.
    """
    try:
        from triton.runtime import interpreter
    except ImportError:
        return False
    original = interpreter._patch_lang_tensor
    if getattr(original, "mended", False):
        return True

    def mended(tensor, scope):
        original(tensor, scope)
        scope.set_attr(tensor, "__index__", lambda self: int(self.handle.data.item()))

    mended.mended = True
    interpreter._patch_lang_tensor = mended
    interpreter._convert_float = _convert_float
    _mend_products(interpreter)
    return True


def _torch_types():
    import torch
    import triton.language as tl

    return {
        tl.float64: torch.float64, tl.float32: torch.float32, tl.float16: torch.float16,
        tl.bfloat16: torch.bfloat16, tl.float8e4nv: torch.float8_e4m3fn,
        tl.float8e5: torch.float8_e5m2,
    }  # fmt: skip


def _convert_float(data, source, target, _rounding):
    """Bits of ``target`` in unsigned integers, from numbers or bits of ``source``."""
    import numpy as np
    import torch

    types = _torch_types()
    bits = torch.from_numpy(np.ascontiguousarray(data).view(f"i{source.primitive_bitwidth // 8}"))
    found = bits.view(types[source]).to(types[target])
    size = target.primitive_bitwidth
    whole = {8: torch.uint8, 16: torch.int16, 32: torch.int32, 64: torch.int64}[size]
    return found.view(whole).numpy().view(f"u{size // 8}")


def _mend_products(interpreter):
    """Widen bfloat16 operands of a matrix product to float32, which changes no number."""
    import triton.language as tl

    builder = interpreter.InterpreterBuilder
    product = builder.create_dot

    def wide(x):
        if x.dtype.scalar != tl.bfloat16:
            return x
        data = _convert_float(x.data, tl.bfloat16, tl.float32, None)
        return interpreter.TensorHandle(data.view("float32"), tl.float32)

    def create_dot(self, a, b, *others):
        return product(self, wide(a), wide(b), *others)

    builder.create_dot = create_dot
