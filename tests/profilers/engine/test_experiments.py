"""Iterations as a client sees them, against a server whose iterations take a known time."""

import numpy as np
import pytest

from profilers.engine.client import EngineError, Stream
from profilers.engine.experiments import (
    Load,
    Prompts,
    closed_loop,
    head_start,
    lone_prompt,
    long_gaps,
    prompt_beside,
    static_batch,
    steady,
)

BASE, PROMPT, SEQUENCE = 0.03, 1e-4, 5e-4  # seconds: per iteration, prompt token, decode


def prompts():
    return Prompts(1000, np.random.default_rng(0))


def about(seconds):
    """A machine that does something else meanwhile makes a time longer, and hardly shorter."""
    return pytest.approx(seconds, rel=0.25)


def schedule(start, first, gaps, prompt=100):
    times = start + first + np.concatenate([[0.0], np.cumsum(gaps)])
    return Stream(start, times, np.arange(1, len(times) + 1), prompt)


def test_first_token_of_a_lone_prompt(serving, wait):
    with serving(base=BASE, prompt=PROMPT) as server:
        short = wait(lone_prompt(server, prompts(), 100))
        long = wait(lone_prompt(server, prompts(), 2000))
    assert short.median == about(BASE + 100 * PROMPT)
    assert long.median == about(BASE + 2000 * PROMPT)


def test_a_static_batch_shows_one_iteration_per_token(serving, wait):
    with serving(base=BASE, sequence=SEQUENCE, prompt=1e-6) as server:
        one = wait(static_batch(server, prompts(), 1, 500, 8192))
        many = wait(static_batch(server, prompts(), 32, 500, 8192))
    assert one.median == about(BASE + SEQUENCE)
    assert many.median == about(BASE + 32 * SEQUENCE)
    assert many.context == pytest.approx(500, abs=5)


def test_a_prompt_beside_a_batch_shows_as_one_long_gap(serving, wait):
    with serving(base=BASE, sequence=SEQUENCE, prompt=PROMPT) as server:
        seen = wait(prompt_beside(server, prompts(), 1000, 4, 300, 8192))
    assert seen.median == about(BASE + 1000 * PROMPT + 4 * SEQUENCE)
    assert len(seen.seconds) == 5


def test_a_closed_loop_keeps_its_users_busy(serving, wait):
    load = Load(users=4, isl=50, osl=8, requests=12, least=0.5)
    with serving(base=0.01) as server:
        served = wait(closed_loop(server, prompts(), load))
    assert len(served.streams) == 12
    lengths = {int(stream.tokens[-1]) for stream in served.streams}
    assert lengths <= set(range(4, 9))
    assert len(lengths) > 1
    assert all(25 <= stream.prompt <= 50 for stream in served.streams)
    starts = sorted(stream.start for stream in served.streams)
    ends = sorted(stream.times[-1] for stream in served.streams)
    assert all(start > end for start, end in zip(starts[4:], ends, strict=False))


def test_a_refusal_ends_the_whole_batch(serving, wait):
    with serving(context=100) as server, pytest.raises(EngineError, match="longer than"):
        wait(static_batch(server, prompts(), 4, 500, 8192))


def test_steady_counts_only_while_all_run():
    late = schedule(0.0, 3.0, [0.5] * 20)  # alone after the other has ended
    early = schedule(0.0, 1.0, [0.1] * 10 + [0.5] * 10)
    found = steady([early, late])
    assert found.median == pytest.approx(0.5)
    assert 100 < found.context < 125


def test_several_tokens_of_one_event_count_as_several():
    stream = Stream(0.0, np.arange(1.0, 21.0), np.arange(1, 81, 4), 10)
    assert steady([stream]).median == pytest.approx(0.25)


def test_a_batch_that_never_ran_all_at_once_is_refused():
    with pytest.raises(EngineError, match="never ran all at once"):
        steady([schedule(0.0, 1.0, [0.1] * 5), schedule(0.0, 9.0, [0.1] * 5)])


def test_long_gaps_are_those_of_the_injected_prompts():
    gaps = [0.01] * 10 + [0.2] + [0.01] * 10 + [0.9] + [0.01] * 5 + [0.3] + [0.01] * 5
    streams = [schedule(0.0, 0.0, gaps), schedule(0.0, 0.0, gaps)]
    edges = streams[0].times
    # The gaps of 0.2 and 0.3 hold prompts; that of 0.9 is something else.
    injected = [(edges[10] - 0.005, edges[11]), (edges[27] - 0.005, edges[28])]
    assert long_gaps(streams, injected).seconds == pytest.approx([0.2, 0.3])


def test_prompts_after_the_batch_has_ended_do_not_count():
    streams = [schedule(0.0, 0.0, [0.01] * 5)]
    with pytest.raises(EngineError, match="while the whole batch ran"):
        long_gaps(streams, [(1.0, 2.0)])


def test_prompts_share_nothing_and_skip_special_ids():
    source = prompts()
    first, second = source.draw(500), source.draw(500)
    assert first[:2] != second[:2]
    assert min(first + second) >= 2
    assert max(first + second) < 1000


@pytest.mark.parametrize(("batch", "length", "least"), [(1, 100, 1), (64, 8192, 64)])
def test_the_head_start_covers_the_iterations_with_prompts(batch, length, least):
    assert head_start(batch, length, 8192) > least
