from functools import cache

import pytest

from aiconf.api import search


@cache
def _search(arguments, options):
    return search(*arguments, **dict(options))


@pytest.fixture(scope="session")
def run_search():
    """``aiconf.search`` that answers a repeated question from memory."""

    def run(*arguments, **options):
        return _search(arguments, tuple(sorted(options.items())))

    return run
