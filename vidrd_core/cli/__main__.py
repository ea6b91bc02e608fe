"""`python -m vidrd_core.cli`, for where the script `vidrd` is not on the path."""

import sys

from vidrd_core.cli import main

sys.exit(main())
