"""Checked access to a Hugging Face config.json: every miss names the file and the key."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from aiconf.errors import UserError

# Beyond these a figure is a slip, and counting to it would take for ever. Llama 4 Scout states a
# context of 10,485,760 tokens.
_MOST = 2**24
_MOST_LAYERS = 1_000


class Config:
    """The figures of one config.json (or of a section of it).

    Parameters
    ----------
    figures
        The parsed JSON object.
    source
        What to call the file in messages.
    """

    def __init__(self, figures: Mapping[str, Any], source: str) -> None:
        self._figures = figures
        self.source = source

    def problem(self, text: str) -> UserError:
        """Build the error for what is wrong in this file."""
        return UserError(f"{self.source}: {text}")

    def get(self, key: str) -> Any:
        """Return a raw value, None where the key is absent."""
        return self._figures.get(key)

    def stated(self) -> tuple[str, ...]:
        """Return the keys whose value says something: not null, false, 0, or empty."""
        return tuple(str(key) for key, value in self._figures.items() if value)

    def section(self, key: str) -> Config:
        """Return a nested object, such as ``text_config``."""
        value = self._figures.get(key)
        if not isinstance(value, Mapping):
            raise self.problem(f"'{key}' is missing or not an object")
        return Config(value, self.source)

    def whole(self, *keys: str, default: int | None = None, least: int = 1) -> int:
        """Return a whole number from the first of ``keys`` that has one.

        Raises
        ------
        UserError
            When none is there and no default was given, or it is not a whole number >= least, or
            larger than any model's.
        """
        for key in keys:
            value = self._figures.get(key)
            if value is None:
                continue
            if isinstance(value, bool) or not isinstance(value, int) or value < least:
                said = shown(value)
                raise self.problem(f"'{key}' must be a whole number of at least {least}: {said}")
            most = _MOST_LAYERS if key == "num_hidden_layers" else _MOST
            if value > most:
                raise self.problem(f"'{key}' must be at most {most}: {shown(value)}")
            return value
        if default is None:
            raise self.problem(f"'{keys[0]}' is missing")
        return default

    def flag(self, key: str, default: bool = False) -> bool:
        """Return a truth value."""
        value = self._figures.get(key)
        return default if value is None else bool(value)

    def listed(self, key: str) -> list[Any] | None:
        """Return a list, None where the key is absent.

        Raises
        ------
        UserError
            When the value is something else.
        """
        value = self._figures.get(key)
        if value is not None and not isinstance(value, list):
            raise self.problem(f"'{key}' must be a list: {shown(value)}")
        return value

    def kinds(self, key: str) -> list[str] | None:
        """Return a list of one name per layer, None where the key is absent.

        Raises
        ------
        UserError
            When it is not a list of names, or not as long as ``num_hidden_layers``.
        """
        found = self.listed(key)
        if found is None:
            return None
        layers = self.whole("num_hidden_layers")
        if len(found) != layers:
            raise self.problem(f"{key} has {len(found)} entries for {layers} layers")
        if not all(isinstance(kind, str) for kind in found):
            raise self.problem(f"'{key}' must be a list of names")
        return found

    def indices(self, key: str) -> frozenset[int]:
        """Return a list of layer numbers, empty where the key is absent."""
        found = self.listed(key) or ()
        if not all(isinstance(entry, int) for entry in found):
            raise self.problem(f"'{key}' must be a list of whole numbers")
        return frozenset(found)

    def head_counts(self) -> tuple[int, int, int]:
        """Return query heads, KV heads and head size of grouped attention.

        Raises
        ------
        UserError
            When the figures contradict each other.
        """
        heads = self.whole("num_attention_heads")
        kv_heads = self.whole("num_key_value_heads", default=heads)
        if heads % kv_heads:
            raise self.problem(
                f"num_attention_heads {heads} is not a multiple of num_key_value_heads {kv_heads}"
            )
        hidden = self.whole("hidden_size")
        if self.get("head_dim") is None and hidden % heads:
            raise self.problem(
                f"hidden_size {hidden} is not a multiple of num_attention_heads {heads}, "
                "and head_dim is missing"
            )
        return heads, kv_heads, self.whole("head_dim", default=hidden // heads)

    def experts(self, *keys: str) -> tuple[int, int]:
        """Return the number of routed experts and how many a token visits."""
        return self.routing(keys, ("num_experts_per_tok", "experts_per_token"))

    def routing(self, counts: tuple[str, ...], visits: tuple[str, ...]) -> tuple[int, int]:
        """Return the number of routed experts and how many a token visits, by keys of both.

        Raises
        ------
        UserError
            When either is missing, or a token would visit more experts than there are.
        """
        experts, topk = self.whole(*counts), self.whole(*visits)
        if topk > experts:
            raise self.problem(f"{visits[0]} {topk} exceeds the {experts} experts")
        return experts, topk


def shown(value: object) -> str:
    """Return a value as a message shows it: one line, not longer than a few words."""
    text = " ".join(str(value).split()) if not isinstance(value, int) else f"{value:.12g}"
    return text if len(text) <= 40 else f"{text[:37]}..."
