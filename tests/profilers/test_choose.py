"""The choice among configurations of a kernel, with times made up."""

import pytest


@pytest.fixture
def choose(monkeypatch):
    pytest.importorskip("torch")
    pytest.importorskip("triton")
    from profilers.kernels import choose

    monkeypatch.setattr(choose, "_chosen", {})
    return choose


def chosen(choose, monkeypatch, times, shape=("kernel", 1)):
    """Choose among the configurations of ``times``; those that are None do not work."""
    import torch

    tried = []

    def seconds(_run, config, _device):
        tried.append(config)
        if times[config] is None:
            raise ValueError(f"{config} needs too much")
        return times[config]

    monkeypatch.setattr(choose, "_seconds", seconds)
    gpu = torch.device("cuda")
    return choose.fastest(shape, tuple(times), lambda config: None, gpu), tried


def test_the_fastest_that_works_is_taken_once(choose, monkeypatch):
    times = {"a": 2.0, "b": None, "c": 1.0}
    assert chosen(choose, monkeypatch, times) == ("c", ["a", "b", "c"])
    assert chosen(choose, monkeypatch, times) == ("c", [])
    assert chosen(choose, monkeypatch, {"a": 1.0, "c": 2.0}, ("kernel", 2))[0] == "a"


def test_none_that_works_is_said(choose, monkeypatch):
    with pytest.raises(RuntimeError, match=r"no configuration of kernel works here: b needs"):
        chosen(choose, monkeypatch, {"a": None, "b": None})


def test_the_cpu_takes_the_first(choose):
    import torch

    assert choose.fastest(("kernel",), ("a", "b"), print, torch.device("cpu")) == "a"
