"""The documented import name of the Hypothesis strategies; the code is in `hobbyhorse.conformance.strategies`."""

from hobbyhorse.conformance.strategies import Callback as Callback
from hobbyhorse.conformance.strategies import Response as Response
from hobbyhorse.conformance.strategies import callbacks as callbacks
from hobbyhorse.conformance.strategies import invalid_orders as invalid_orders
from hobbyhorse.conformance.strategies import orders as orders
from hobbyhorse.conformance.strategies import responses as responses
from hobbyhorse.conformance.strategies import scenarios as scenarios
