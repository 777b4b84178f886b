"""What all tests share: no plan measures this machine unless a test asks for it."""

from __future__ import annotations

import os

os.environ.setdefault("SCALING_CALIBRATE", "0")
