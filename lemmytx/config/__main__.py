"""C{python -m lemmytx.config > docs/configuration.md}: the reference, on standard output."""

import sys

from lemmytx.config.describe import reference

sys.stdout.write(reference())
