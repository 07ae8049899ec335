"""`python -m inferry` is the command `inferry`."""

import sys

from inferry.cli import main

sys.exit(main())
