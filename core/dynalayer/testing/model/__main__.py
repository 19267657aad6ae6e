"""Runs the command."""

import sys

from dynalayer.testing.model.command import main

sys.exit(main())
