"""The search: every layout, batch and pairing evaluated as arrays, ranked against targets.

Public: ``search.search``, ``estimate.estimate_point``, ``request.Request``, ``plan.plan``.
"""
