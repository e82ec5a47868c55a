"""Time to encode images: the vision tower of a layout, before the prompt's own iteration."""

from __future__ import annotations

import numpy as np

from aiconf.engine.batch import Array
from aiconf.engine.curves import PART, TOKENS, Curves
from aiconf.engine.launches import launch_seconds
from aiconf.engine.traits import Traits
from aiconf.model.operation import Collective, Gemm
from aiconf.model.vision import VisionTower
from aiconf.model.vision_operators import Simple, vision_operators
from aiconf.parallel import Parallel
from aiconf.perf.collective import collective_seconds
from aiconf.perf.encoder import EncoderHeads, encoder_seconds
from aiconf.perf.gemm import gemm_seconds
from aiconf.perf.memory import memory_seconds
from aiconf.perf.origin import Origin, Origins
from aiconf.perf.tables import Tables


class VisionTimer:
    """Seconds to encode the images of an iteration on one attention rank.

    The tower runs eagerly, so it takes no less than the host needs to launch its kernels. In a
    pipeline it lies on the first stage while the others wait: in a full pipeline each second of
    it delays every micro-batch, so it counts once per stage.
    """

    def __init__(
        self, tables: Tables, tower: VisionTower, parallel: Parallel, traits: Traits
    ) -> None:
        self._tables, self._tower = tables, tower
        self._scale = traits.scales.get("vision", 1.0)
        self._stages, self._tp = parallel.pp, parallel.tp
        divided = parallel.tp if traits.vision.parallel == "weights" else 1
        self._run = run = vision_operators(tower, divided)
        self._heads = EncoderHeads(run.heads, tower.head_dim)
        self._patch, self._token = Curves(), Curves()  # of patches, of tokens that come out
        for curves, operators in ((self._patch, run.patch), (self._token, run.token)):
            for operator in operators:
                time, origin = self._timed(operator)
                curves.add("vision", time * operator.count, origin)
            curves.close()
        self._launch = run.launches * launch_seconds(traits)

    def seconds(self, images: Array, patches: Array) -> Array:
        """Seconds of each iteration: ``images`` of ``patches`` each; none for none.

        Part of an image takes that part of its time: an image is encoded once, however many
        iterations its tokens are spread over.
        """
        count, part = self._each(images)
        gpu = self._patch.total_at(count * patches)
        gpu = gpu + self._token.total_at(count * patches / self._tower.merge**2)
        gpu = gpu + self._attention(count, patches)[0]
        return np.where(images > 0, self._whole(gpu, part), 0.0)

    def add(self, total: Array, images: Array, patches: Array) -> None:
        """Add seconds to ``total``, shape (part, origin, point), all as part ``vision``."""
        count, part = self._each(images)
        merge = self._tower.merge**2
        found = self._patch.at(count * patches) + self._token.at(count * patches / merge)
        by_origin: Array = found.sum(axis=0)
        time, origin = self._attention(count, patches)
        for kind in Origin:
            by_origin[kind] += np.where(origin == kind, time, 0.0)
        gpu = by_origin.sum(axis=0)
        late = np.where(images > 0, self._whole(gpu, part), 0.0)
        total[PART["vision"]] += by_origin * (late / np.where(gpu > 0, gpu, 1.0))

    def _each(self, images: Array) -> tuple[Array, Array]:
        """Images of one rank, at least one, and the part of its time that counts."""
        mine = images
        if self._run.together == 1 and self._tp > 1:  # ranks share the images out
            mine = np.maximum(images / self._tp, np.minimum(images, 1.0))
        return np.maximum(mine, 1.0), np.minimum(images, 1.0)

    def _whole(self, gpu: Array, part: Array) -> Array:
        found: Array = np.maximum(gpu * self._scale, self._launch) * part * self._stages
        return found

    def _attention(self, count: Array, patches: Array) -> tuple[Array, Origins]:
        time, origin = encoder_seconds(self._tables, self._heads, count, patches)
        return time * self._run.layers, origin

    def _timed(self, operator: Simple) -> tuple[Array, Origins]:
        """Seconds of one occurrence on the token grid."""
        tables = self._tables
        if isinstance(operator, Gemm):
            return gemm_seconds(tables, operator.dtype, operator.n, operator.k, TOKENS)
        if isinstance(operator, Collective):
            moved = operator.bytes_per_token * TOKENS
            return collective_seconds(tables, operator.op, operator.ranks, moved, eager=True)
        time, origin = memory_seconds(tables, operator.bytes_per_token * TOKENS / operator.launches)
        return time * operator.launches, origin
