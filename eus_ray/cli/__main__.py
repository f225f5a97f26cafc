"""`python -m eus_ray.cli`."""

import sys

from eus_ray.cli import main

sys.exit(main())
