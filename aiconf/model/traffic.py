"""Traffic in a model's own tokens: text as it is given, images as its processor cuts them."""

from __future__ import annotations

import re
from dataclasses import dataclass

from aiconf.errors import UserError
from aiconf.model.spec import ModelSpec
from aiconf.workload import Images, Workload, require_whole

IMAGE_SIZE = "1024x1024"  # where images are asked for and their size is not
_LONGEST = 100_000  # pixels of a side; beyond it a size is a slip


@dataclass(frozen=True)
class Asked:
    """Requests as a user asks for them, before a model is known.

    isl: tokens of text; those of ``images`` come in addition. image_size: WIDTHxHEIGHT in pixels.
    """

    isl: int
    osl: int
    prefix: int = 0
    images: int = 0
    image_size: str | None = None

    def of(self, spec: ModelSpec) -> Workload:
        """Return the requests in the tokens of ``spec``.

        Raises
        ------
        UserError
            For lengths or a size that cannot be, and for images where the model has no tower.
        """
        require_whole("isl", self.isl, 1)
        found = images_of(spec, self.images, self.image_size)
        if found is None:
            return Workload(self.isl, self.osl, self.prefix)
        return Workload(self.isl + found.prompt_tokens, self.osl, self.prefix, found)


def images_of(spec: ModelSpec, count: int, size: str | None) -> Images | None:
    """Images of one request; None for none (see ``Asked.of``)."""
    require_whole("images", count, 0)
    if size is not None and not count:
        raise UserError(f"image size {size} is of no image: give --images too")
    if not count:
        return None
    width, height = pixels(size or IMAGE_SIZE)
    tower = spec.vision
    if tower is None:
        raise UserError(
            f"{spec.name} takes no images: it has no vision tower that is known; Qwen3-VL, "
            "Qwen3.5, Qwen3.6, Kimi-K2.5, Kimi-K3 and Gemma-3 from 4B on have one"
        )
    try:
        patches = tower.patches(width, height)
    except ValueError as problem:
        raise UserError(f"image size {size}: {problem}") from None
    return Images(int(count), width, height, patches, tower.tokens(patches))


def pixels(size: str) -> tuple[int, int]:
    """Read ``WIDTHxHEIGHT`` in pixels.

    Raises
    ------
    UserError
        For anything else, and for sides below 1 or beyond 100,000 pixels.
    """
    read = re.fullmatch(r"\s*(\d{1,9})\s*[xX]\s*(\d{1,9})\s*", str(size))
    if read is None:
        raise UserError(f"image size '{size}' must be WIDTHxHEIGHT in pixels, like {IMAGE_SIZE}")
    width, height = int(read[1]), int(read[2])
    for side in (width, height):
        if not 1 <= side <= _LONGEST:
            raise UserError(
                f"image size '{size}': sides must be 1 to {_LONGEST:,} pixels, like {IMAGE_SIZE}"
            )
    return width, height
