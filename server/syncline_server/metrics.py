"""What the server counts about itself, and how `/metrics` shows it.

`Counts` is plain integers, so that counting costs next to nothing on the way of a change; `ServerCollector` turns
them into the series of the Prometheus text format when somebody asks. Each series is described once, in `SERIES`,
from which the reference is checked too.
"""

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

__all__ = ["SERIES", "Counts", "Gauges", "Histogram", "Series", "ServerCollector"]


class Series(NamedTuple):
    """One series: its name without the prefix, kind, help, and label if it has one."""

    name: str
    kind: str
    help: str
    label: str = ""


SERIES: tuple[Series, ...] = (
    Series("connections", "gauge", "WebSocket connections that are open"),
    Series("subscriptions", "gauge", "Subscriptions, by state: live or lagging", "state"),
    Series("waiting", "gauge", "HTTP requests that wait for changes: streams and long polls"),
    Series("stores", "gauge", "Stores that this process follows"),
    Series("unsent_bytes", "gauge", "Bytes that peers have not taken yet, in our buffers and the kernel"),
    Series("upkeep", "gauge", "Stores, by the state of their upkeep: idle, expiring, compacting or failed", "state"),
    Series("ready", "gauge", "1 while the server takes requests, 0 while it drains or its storage is away"),
    Series("http_requests", "counter", "HTTP requests that were answered, by status", "status"),
    Series("connections_opened", "counter", "WebSocket connections that were accepted"),
    Series("connections_closed", "counter", "WebSocket connections that this side closed, by close code", "code"),
    Series("frames_received", "counter", "Text frames that came in"),
    Series("errors_sent", "counter", "Requests and frames that were refused with ERROR or a problem, by code", "code"),
    Series("refused", "counter", "Connections, requests and attempts above a limit, by the limit", "limit"),
    Series("subscribes", "counter", "Subscriptions that were opened, by how they went on", "how"),
    Series("writes", "counter", "Ops that were answered, by status", "status"),
    Series("commits", "counter", "Appends to the storage, each with one flush"),
    Series("commit_failures", "counter", "Appends that failed, after which the storage was opened anew"),
    Series("rounds", "counter", "Fan-out rounds; one round writes to every live subscriber"),
    Series("changes_delivered", "counter", "Changes written to subscribers"),
    Series("fell_behind", "counter", "Times a live subscription began to lag"),
    Series("cold_reads", "counter", "Reads of the storage for subscribers below the tail"),
    Series("cold_reads_failed", "counter", "Such reads that failed"),
    Series("cleaned_up", "counter", "What clean-up took away: expired records, values, tombstones", "what"),
    Series("reclaimed_bytes", "counter", "Bytes that were given back to the medium, about"),
    Series("upkeep_failures", "counter", "Runs of the upkeep of a store that failed"),
    Series("commit_seconds", "histogram", "Time from the start of an append to its durability"),
    Series("commit_ops", "histogram", "Ops that one append carried"),
)


class Histogram:
    """A histogram that is cheap to feed: fixed bounds, plain lists."""

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self.bounds = bounds
        self.buckets = [0] * (len(bounds) + 1)
        self.total = 0.0

    def observe(self, value: float) -> None:
        """Count one value."""
        self.total += value
        for index, bound in enumerate(self.bounds):
            if value <= bound:
                self.buckets[index] += 1
                return
        self.buckets[-1] += 1


@dataclass(slots=True)
class Counts:
    """Everything that only grows."""

    connections_opened: int = 0
    connections_closed: Counter[str] = field(default_factory=Counter)
    frames_received: int = 0
    http_requests: Counter[str] = field(default_factory=Counter)
    errors_sent: Counter[str] = field(default_factory=Counter)
    refused: Counter[str] = field(default_factory=Counter)
    subscribes: Counter[str] = field(default_factory=Counter)
    writes: Counter[str] = field(default_factory=Counter)
    commits: int = 0
    commit_failures: int = 0
    rounds: int = 0
    changes_delivered: int = 0
    fell_behind: int = 0
    cold_reads: int = 0
    cold_reads_failed: int = 0
    cleaned_up: Counter[str] = field(default_factory=Counter)
    reclaimed_bytes: int = 0
    upkeep_failures: int = 0
    commit_seconds: Histogram = field(
        default_factory=lambda: Histogram((0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1, 2.5))
    )
    commit_ops: Histogram = field(default_factory=lambda: Histogram((1, 2, 5, 10, 25, 50, 100, 250, 500, 1000, 5000)))


@dataclass(frozen=True, slots=True)
class Gauges:
    """Everything that goes up and down, taken at one moment."""

    connections: int
    subscriptions: dict[str, int]
    waiting: int
    stores: int
    unsent_bytes: int
    upkeep: dict[str, int]
    ready: bool


class ServerCollector(Collector):
    """Shows `Counts` and `Gauges` in the terms of prometheus-client."""

    def __init__(self, counts: Counts, gauges: Callable[[], Gauges]) -> None:
        self._counts = counts
        self._gauges = gauges

    def collect(self) -> Iterable[Metric]:
        gauges = self._gauges()
        for series in SERIES:
            source: object = gauges if series.kind == "gauge" else self._counts
            yield _metric(series, getattr(source, series.name))


def _metric(series: Series, value: object) -> Metric:
    name, labels = f"syncline_{series.name}", [series.label] if series.label else []
    if isinstance(value, Histogram):
        return HistogramMetricFamily(name, series.help, buckets=_buckets(value), sum_value=value.total)
    family = GaugeMetricFamily if series.kind == "gauge" else CounterMetricFamily
    metric = family(name, series.help, labels=labels)
    if isinstance(value, dict):
        for label, count in value.items():
            metric.add_metric([label], count)
    else:
        assert isinstance(value, (int, bool))
        metric.add_metric([], float(value))
    return metric


def _buckets(histogram: Histogram) -> list[tuple[str, float]]:
    rows: list[tuple[str, float]] = []
    running = 0
    for bound, count in zip((*histogram.bounds, float("inf")), histogram.buckets, strict=True):
        running += count
        rows.append(("+Inf" if bound == float("inf") else str(bound), running))
    return rows
