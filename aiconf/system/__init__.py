"""What it runs on: the GPU systems of ``systems/*.yaml``, every figure with its source."""

from aiconf.system.catalog import load_system, system_names
from aiconf.system.spec import Gpu, System

__all__ = ["Gpu", "System", "load_system", "system_names"]
