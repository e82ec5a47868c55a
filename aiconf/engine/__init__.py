"""How an engine runs: the time of one iteration, its memory, and the defaults of each backend.

Public: ``platform.platform``, ``step.StepModel``, ``batch.Batch``, ``capacity.capacity``.
"""
