"""Measured kernels: tables, surfaces over them, and the speed of light beyond.

Public: ``store.PerfDb``, ``tables.Tables``, and one module per kind of kernel.
"""
