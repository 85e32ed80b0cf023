"""Writes the figures in the format of Prometheus. Imported at the first scrape, because the library takes 60 ms."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from importlib.metadata import version

from prometheus_client import CollectorRegistry, GCCollector, PlatformCollector, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from hobbyhorse.server.metrics.counters import Counters, Histogram, Key
from hobbyhorse.server.metrics.gauges import Gauges


class _Families(Collector):
    """The metric families of one scrape."""

    def __init__(self, counters: Counters, gauges: Gauges) -> None:
        self._counters, self._gauges = counters, gauges

    def describe(self) -> Iterable[Metric]:
        """Describe nothing, so that the registry does not collect for it."""
        return ()

    def collect(self) -> Iterable[Metric]:
        """Yield every family."""
        yield from _counted(self._counters)
        yield from _present(self._gauges)
        build = GaugeMetricFamily("hobbyhorse_build_info", "The version, as a label; always 1", labels=("version",))
        build.add_metric((_version(),), 1)
        yield build


# What they read of the process does not change with the server.
_PROCESS = CollectorRegistry(auto_describe=False)
ProcessCollector(registry=_PROCESS)
PlatformCollector(registry=_PROCESS)
GCCollector(registry=_PROCESS)


def exposition(counters: Counters, gauges: Gauges, accept: str) -> tuple[bytes, str]:
    """Return the figures in the format that an Accept header asks for, and its media type."""
    encode, media_type = choose_encoder(accept)
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Families(counters, gauges))
    registry.register(_Process())
    return encode(registry), media_type


@cache
def _version() -> str:
    # Reading it takes 3 ms, more than all the rest of a scrape.
    return version("hobbyhorse")


class _Process(Collector):
    """The figures of this process and of its Python."""

    def collect(self) -> Iterable[Metric]:
        """Yield the families of the library's collectors."""
        return _PROCESS.collect()


def _counted(counters: Counters) -> Iterator[Metric]:
    yield _count(
        "hobbyhorse_requests",
        "Requests to providers and for files; the role is none if no operation matches",
        ("provider", "operation", "situation"),
        {key: one.count for key, one in counters.requests.items()},
    )
    by_operation: dict[Key, Histogram] = {}
    for (provider, role, _), one in counters.requests.items():
        by_operation.setdefault((provider, role), Histogram(one.bounds)).add(one)
    yield _histogram(
        "hobbyhorse_request_duration_seconds",
        "Real time from the arrival of a request to the last byte of its response, with the delays of faults",
        ("provider", "operation"),
        by_operation,
    )
    yield _count("hobbyhorse_faults", "Responses that a fault changed", ("provider", "fault"), counters.faults)
    yield _count(
        "hobbyhorse_callback_attempts", "Attempts to deliver a callback", ("provider", "outcome"), counters.callbacks
    )
    yield _histogram("hobbyhorse_render_duration_seconds", "Renderings of files", ("file", "outcome"), counters.renders)
    yield _count("hobbyhorse_input_images", "Checked input images", ("outcome",), counters.images)
    yield _histogram(
        "hobbyhorse_event_loop_lag_seconds", "How late a timer ran, twice a second", (), {(): counters.lag}
    )


def _present(gauges: Gauges) -> Iterator[Metric]:
    jobs = GaugeMetricFamily("hobbyhorse_jobs", "Kept jobs by their present stage", labels=("provider", "stage"))
    for key, count in sorted(gauges.jobs.items()):
        jobs.add_metric(key, count)
    yield jobs
    queues = GaugeMetricFamily(
        "hobbyhorse_queue_length", "Work under way and waiting; of clock: actions that are not due", labels=("queue",)
    )
    for name, length in gauges.queues.items():
        queues.add_metric((name,), length)
    yield queues
    for name, text, value in (
        ("processes", "Processes that share the state, whose figures these are", gauges.processes),
        ("worlds", "Worlds, which are API keys in use", gauges.worlds),
        ("armed_scenarios", "Armed scenarios of all worlds", gauges.armed),
        ("journal_exchanges", "Exchanges that the journals keep", gauges.journal_exchanges),
        ("journal_bytes", "Bytes of the bodies that the journals keep", gauges.journal_bytes),
        ("stored_images", "Input images that are stored", gauges.images),
        ("stored_image_bytes", "Bytes of the input images that are stored", gauges.image_bytes),
    ):
        yield GaugeMetricFamily(f"hobbyhorse_{name}", text, value=value)


def _count(name: str, text: str, labels: tuple[str, ...], values: Mapping[Key, int]) -> Metric:
    family = CounterMetricFamily(name, text, labels=labels)
    for key, count in sorted(values.items()):
        family.add_metric(key, count)
    return family


def _histogram(name: str, text: str, labels: tuple[str, ...], values: Mapping[Key, Histogram]) -> Metric:
    family = HistogramMetricFamily(name, text, labels=labels)
    for key, one in sorted(values.items()):
        buckets, below = [], 0
        for bound, count in zip((*map(str, one.bounds), "+Inf"), one.counts, strict=True):
            below += count
            buckets.append((bound, below))
        family.add_metric(key, buckets, sum_value=one.total)
    return family
