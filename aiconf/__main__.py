"""``python -m aiconf``: the command line."""

import sys

from aiconf.cli import main

if __name__ == "__main__":
    sys.exit(main())
