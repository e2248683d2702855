"""The device on which the laws of training are checked: the CPU, or HPO_TEST_DEVICE."""

import os

DEVICE = os.environ.get("HPO_TEST_DEVICE", "cpu")
"""Such as cuda; `HPO_TEST_DEVICE=cuda pytest tests/theorems` on a machine that has one."""
