"""Triton's interpreter: our kernels on the CPU, line by line, in NumPy."""

import os

os.environ["TRITON_INTERPRET"] = "1"  # read when a kernel is decorated


def ready():
    """Whether Triton is here; makes its interpreter work with NumPy 2.4 and later.

    Triton 3.6 makes loop bounds of arrays with one element by ``int(array)``, which NumPy refuses
    since 2.4 for arrays that have a dimension.
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
    return True
