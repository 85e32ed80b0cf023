"""The documented import name of the pytest plugin; the code is in `hobbyhorse.testing.pytest_plugin`."""

from hobbyhorse.testing.pytest_plugin import *  # noqa: F403
