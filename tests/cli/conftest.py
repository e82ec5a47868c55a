import pytest

from aiconf.cli import main


@pytest.fixture
def aiconf(capsys):
    """Run ``aiconf WORDS`` in this process; returns exit code, standard output and error."""

    def run(*words):
        code = main([str(word) for word in words])
        out, err = capsys.readouterr()
        return code, out, err

    return run
