"""GPU benchmarks that fill perf_db: one file per operator, and what they share.

Reading guide: ``operator`` (what an operator declares), ``gemm`` (one, complete), ``measure``
(how one point is checked and timed), ``run`` (which point is next, and the journal).
Imports nothing above ``aiconf.perf``; torch and triton are imported where a kernel is run.
"""
