"""The text of the metrics is read by prometheus-client's own parsers."""

from __future__ import annotations

from collections import Counter
from importlib.metadata import version

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as read_openmetrics
from prometheus_client.parser import text_string_to_metric_families

from hobbyhorse.server.metrics.exposition import exposition
from hobbyhorse.server.metrics.gauges import Gauges
from tests.server.metrics.test_counters import counted

GAUGES = Gauges(worlds=2, jobs=Counter({("acme", "queued"): 5}), queues={"renders": 1})
OPENMETRICS = "application/openmetrics-text; version=1.0.0"


@pytest.mark.parametrize("accept", ["", "text/plain", "*/*", OPENMETRICS, "nonsense;;;"])
def test_each_format_parses_to_the_same_figures(accept: str) -> None:
    content, media_type = exposition(counted(), GAUGES, accept)
    assert media_type.startswith("application/openmetrics-text" if accept == OPENMETRICS else "text/plain")
    read = read_openmetrics if accept == OPENMETRICS else text_string_to_metric_families
    families = {family.name: family for family in read(content.decode())}
    found = {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in families.values()
        for sample in family.samples
    }
    assert found["hobbyhorse_worlds", ()] == 2
    assert found["hobbyhorse_jobs", (("provider", "acme"), ("stage", "queued"))] == 5
    labels = (("operation", "submit"), ("provider", "acme"))
    assert found["hobbyhorse_requests_total", (*labels, ("situation", "accepted"))] == 1
    assert found["hobbyhorse_request_duration_seconds_count", labels] == 1
    assert found["hobbyhorse_request_duration_seconds_bucket", (("le", "0.001"), *labels)] == 0
    assert found["hobbyhorse_request_duration_seconds_bucket", (("le", "+Inf"), *labels)] == 1
    assert found["hobbyhorse_build_info", (("version", version("hobbyhorse")),)] == 1
    assert found["process_resident_memory_bytes", ()] > 1e6
