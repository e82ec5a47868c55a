"""From iterations to what users see: closed forms of TTFT, TPOT and throughput.

Public: ``aggregated.aggregated``, ``disaggregated.prefill_wait``, ``plan.Plan``.
"""
