"""The injected clock and the detection of quiescence; imports no other folder."""

from hobbyhorse.clock.clock import Clock as Clock
from hobbyhorse.clock.clock import ManualClock as ManualClock
from hobbyhorse.clock.clock import RealClock as RealClock
