"""`python -m inferry` is the command `inferry`."""

import sys

from inferry.cli.main import main

sys.exit(main())
