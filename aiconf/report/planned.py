"""The planner of a deployment that is written: from what its prediction rests on."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aiconf.engine.engine import Platform
from aiconf.errors import UserError
from aiconf.search.request import Request
from aiconf.search.search import Found
from aiconf.serving.plan import Plan, Role

if TYPE_CHECKING:
    from aiconf.deploy.options import Options
    from aiconf.deploy.planner import Planner


def planner_of(
    request: Request, found: Found, plan: Plan, options: Options | None
) -> Planner | None:
    """Return the planner of ``plan``, the deployment of ``found``; None where none is wanted.

    Raises
    ------
    UserError
        The planner would refuse its configuration, or no profile can be made.
    """
    if options is not None and options.planner and plan.workload.images:
        raise UserError(
            "the planner's profile is of prompts of text alone: leave out --planner or --images"
        )
    if options is None or not options.planner:
        return None
    from aiconf.deploy.planner import planner
    from aiconf.deploy.versions import runtime

    before = found.prefill_variant
    last: Role = "agg" if before is None else "decode"
    places: dict[Role, Platform] = {last: found.variant.platform}
    if before is not None:
        places["prefill"] = before.platform
    release = runtime(plan.backend, options.dynamo).dynamo
    return planner(plan, places, request.sla, request.gpus, release)
