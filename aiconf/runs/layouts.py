"""Layouts as measured rows write them, turned into ones that the engine can run."""

from __future__ import annotations

import re

from aiconf.engine.traits import Traits
from aiconf.errors import UserError
from aiconf.model.layout import layout_problem
from aiconf.model.spec import ModelSpec
from aiconf.parallel import Parallel
from aiconf.runs.cells import Cells, Skipped, count, settings
from aiconf.runs.measured import Workers
from aiconf.runs.names import replicated

ONE_NODE = 8  # GPUs up to which a worker is taken for plain tensor parallelism


def aggregated_workers(cells: Cells) -> Workers:
    """Read the layout of aggregated workers from tp, pp, dp, ep and num_gpus.

    Raises
    ------
    Skipped
        Where the layout is not stated or contradicts the number of GPUs.
    """
    notes = cells.get("notes", "")
    if "INCOMPLETE_CONFIG" in notes:
        raise Skipped("the layout is not stated: only the number of GPUs")
    tp, pp = count(cells, "tp"), count(cells, "pp", 1)
    dp, ep = count(cells, "dp", 1), count(cells, "ep", 1)
    gpus = count(cells, "num_gpus", tp * pp * (1 if "dp_attention=true" in notes else dp))
    ranks = _expert_ranks(notes)
    if "dp_attention=true" in notes:
        tp, dp = 1, tp
    elif dp == 1 and ranks > tp and ranks % tp == 0:
        # The experts lie on more ranks than attention has: the rest is attention DP.
        gpus, dp = gpus * (ranks // tp), ranks // tp
    elif dp > 1 and gpus == tp * pp and tp % dp == 0:
        tp //= dp  # tp is the ranks of the worker: it includes the attention replicas
    return _workers(tp, pp, dp, ep, gpus)


def by_rank_batch(cells: Cells, workers: Workers, *, moe: bool) -> Workers:
    """Read what ``max_batch`` of an ``AIC_fields`` row says beside its load.

    It is the share of one attention rank. As many shares as the worker has GPUs: attention of
    experts' models was data-parallel over them. More than a node has: that many workers ran,
    and the row counts the GPUs of one.
    """
    if "AIC_fields" not in cells.get("notes", "") or workers.parallel.dp > 1:
        return workers
    users, share = cells.get("concurrency_or_rate", ""), cells.get("max_batch", "")
    if not (users.isdigit() and share.isdigit()) or int(share) < 1 or int(users) % int(share):
        return workers
    shares, one = int(users) // int(share), workers.parallel
    if moe and shares == one.tp > 1:
        return Workers(Parallel(1, one.pp, one.tp, one.ep), workers.count)
    return Workers(one, shares) if shares > ONE_NODE else workers


def _expert_ranks(notes: str) -> int:
    """Ranks that the experts of an ``AIC_fields`` row lie on; 0 where it does not say.

    Some rows note that these fields multiply tp by ep ("folded"): they say nothing then.
    """
    if "tp*ep folded" in notes or "fold tp*ep" in notes:
        return 0
    found = re.search(r"moe_tp=(\d+) moe_ep=(\d+)", notes)
    return int(found.group(1)) * int(found.group(2)) if found else 0


def _workers(tp: int, pp: int, dp: int, ep: int, gpus: int) -> Workers:
    if (tp * dp) % ep:
        raise Skipped(f"ep {ep} does not divide the {tp * dp} ranks of a worker")
    parallel = Parallel(tp, pp, dp, ep)
    if gpus % parallel.gpus:
        raise Skipped(f"{gpus} GPUs are no multiple of the {parallel.gpus} of {parallel}")
    return Workers(parallel, gpus // parallel.gpus)


def both_sides(prefill: str, decode: str) -> tuple[Workers, Workers]:
    """Read the sides of a disaggregated row (``workers=2;tp=4;ep=4;dp_attn=true;gpus=8``).

    Raises
    ------
    Skipped
        Where the number of workers or their layout is not stated.
    """
    wide = _gpus_each(decode) > ONE_NODE
    return _side(prefill, "prefill", wide), _side(decode, "decode", wide)


def _gpus_each(text: str) -> int:
    given = settings(text)
    return count(given, "gpus", 1) // max(count(given, "workers", 1), 1) if given else 1


def _side(text: str, side: str, wide: bool) -> Workers:
    given = settings(text)
    workers = count(given, "workers", 0) if given else 0
    if workers < 1:
        raise Skipped(f"number of {side} workers is not stated")
    tp, pp, dp = count(given, "tp"), count(given, "pp", 1), count(given, "dp", 1)
    gpus = count(given, "gpus", workers * tp * pp * dp)
    if gpus % workers:
        raise Skipped(f"{gpus} {side} GPUs do not divide among {workers} workers")
    each = gpus // workers
    # The ranks of a worker follow from its GPUs: some files state tp 1 for all of them.
    ranks, ep = each // pp, count(given, "ep", 1)
    spread = given.get("dp_attn") == "true"
    if spread and tp == ep == 1 and ranks > 1:
        # tp 1 and ep 1 beside several GPUs: the file does not record how they share the model.
        # The same points elsewhere are plain TP up to one node, and DP with EP beyond it.
        spread = wide
        ep = ranks if wide else 1
    if spread:
        tp, dp = 1, ranks
    elif dp == 1:
        tp = ranks
    return _workers(tp, pp, dp, ep, gpus)


def runnable(spec: ModelSpec, traits: Traits, workers: Workers) -> tuple[Workers, str]:
    """Return the layout as the engine runs it, and a note where it differs from the stated one.

    An expert width that cannot be cut over the ranks leaves only whole experts per rank: the
    engines then insist on expert parallelism (vLLM: --enable-expert-parallel), which files
    that list no such setting leave out.

    Raises
    ------
    UserError
        Where neither the model nor the engine allows the layout.
    """
    given = workers.parallel
    problem = _problem(spec, traits, given)
    if problem is None:
        return workers, ""
    spread = Parallel(given.tp, given.pp, given.dp, given.stage_gpus)
    if not spec.is_moe or given.ep not in (1, spread.ep):
        raise UserError(f"layout {given}: {problem}")
    if given.ep == 1 and _problem(spec, traits, spread) is None:
        return Workers(spread, workers.count), f"ep {spread.ep} assumed: {problem}"
    if given.dp > 1 and _problem(replicated(spec, spread.ep), traits, spread) is None:
        return Workers(spread, workers.count), f"redundant experts on ep {spread.ep} assumed"
    raise UserError(f"layout {given}: {problem}")


def _problem(spec: ModelSpec, traits: Traits, parallel: Parallel) -> str | None:
    return layout_problem(spec, parallel) or traits.allows(parallel, moe=spec.is_moe)
