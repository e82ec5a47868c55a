"""Words of the command line before Typer reads them: one spelling, and AIConfigurator's ways."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from aiconf.errors import UserError

# Flags of AIConfigurator 0.12 without an effect on what is asked here: how many values each
# takes. The answer is the same without them, so that its users' scripts keep working.
_IGNORED = {
    "--database-mode": 1, "--transfer-policy": 1, "--engine-step-backend": 1,
    "--forward-model": 1, "--systems-paths": 1, "--log-level": 1, "--debug": 0, "--no-color": 0,
    "--strict-sla": 0, "--enable-chunked-prefill": 0, "--enable-wideep": 0,
    "--generated-config-version": 1, "--config-template-version": 1,
}  # fmt: skip
_WHY = {
    "--database-mode": "measured tables are always used first, speed of light where none covers",
    "--strict-sla": "targets are always kept strictly",
    "--enable-chunked-prefill": "chunked prefill is always searched",
    "--enable-wideep": "wide expert parallelism is always searched",
    "--systems-paths": "give --system a YAML file of your own",
}
_VERSIONED = "the versions written are those that match the predicted engine"
_REFUSED = {
    "--target-request-rate": "give --total-gpus and compare requests/s",
    "--target-concurrency": "give --total-gpus and compare the requests in flight",
    "--inclusive-tpot": "TPOT here never includes the first token",
    "--nextn": "the search has no speculative decoding: `aiconf simulate --drafts N` has",
    "--image-height": "give --images N --image-size WIDTHxHEIGHT",
    "--image-width": "give --images N --image-size WIDTHxHEIGHT",
    "--attention-backend": "the engine's own choice of kernel is modelled",
    "--moe-backend": "the engine's own choice of kernel is modelled",
    "--free-gpu-memory-fraction": "the engine's default memory fraction is used",
    "--generator-set": "edit the files that --save-dir writes",
    "--generator-config": "edit the files that --save-dir writes",
}
_MODES = {
    "exp": "run `aiconf cli` once per experiment, or `aiconf estimate --from FILE.csv`",
    "generate": "run `aiconf cli --model ... --total-gpus ... --save-dir DIR`",
    "estimate": "run `aiconf estimate --model ... --system ... --layout tp4`",
    "support": "run `aiconf support --model ...`",
    "recommend": "run `aiconf cli --model ... --total-gpus ...`",
}


def spelled(words: list[str]) -> list[str]:
    """Write option names with hyphens: ``--total_gpus=8`` becomes ``--total-gpus=8``.

    Values keep their underscores, and so does everything after a lone ``--``.
    """
    found: list[str] = []
    for place, word in enumerate(words):
        if word == "--":
            return found + words[place:]
        name, sign, value = word.partition("=")
        found.append((name.replace("_", "-") if name.startswith("--") else name) + sign + value)
    return found


def translated(words: list[str]) -> tuple[list[str], list[str]]:
    """Accept AIConfigurator's words after ``cli``: its ``default``, and flags we have no need of.

    Returns
    -------
    (words, notes)
        Words that are left for Typer, and a sentence about each that was ignored.

    Raises
    ------
    UserError
        For a subcommand or a flag of AIConfigurator that asks for something else.
    """
    if words[:1] != ["cli"]:
        return words, []
    rest = words[1:]
    if rest and rest[0] in _MODES:
        raise UserError(f"`aiconf cli` has no '{rest[0]}': {_MODES[rest[0]]}")
    if rest[:1] == ["default"]:
        rest = rest[1:]
    kept, notes, place = ["cli"], [], 0
    while place < len(rest):
        name, sign, _ = rest[place].partition("=")
        if name in _REFUSED:
            raise UserError(f"{name} is not supported: {_REFUSED[name]}")
        if name not in _IGNORED:
            kept.append(rest[place])
            place += 1
            continue
        why = _WHY.get(name, _VERSIONED if name.endswith("version") else "it changes nothing here")
        notes.append(f"{name} is accepted and ignored: {why}")
        place += 1 if sign else 1 + _IGNORED[name]
    return kept, notes


def require_target(out: Path, inputs: Sequence[Path]) -> None:
    """Refuse a file to write that cannot be one, before any work, or that is an input.

    Raises
    ------
    UserError
        It is a folder, its folder is missing, or it is one of ``inputs``.
    """
    if out.is_dir():
        raise UserError(f"cannot write {out}: it is a folder")
    if not out.parent.is_dir():
        raise UserError(f"cannot write {out}: there is no folder {out.parent}")
    if any(out.resolve() == Path(one).resolve() for one in inputs):
        raise UserError(f"--out {out} is an input: name another file")
