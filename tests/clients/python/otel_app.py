"""Spans of OpenTelemetry's Python SDK through its OTLP/HTTP exporter: `python otel_app.py protobuf|json`.

The exporter is configured by OTEL_EXPORTER_OTLP_* alone.  What the SDK logs goes to stderr, where it
fails the test.
"""
import json
import logging
import sys
import threading
import time

logging.basicConfig(level=logging.WARNING, stream=sys.stderr)

from opentelemetry.sdk.resources import Resource                                         # noqa: E402
from opentelemetry.sdk.trace import TracerProvider                                       # noqa: E402
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SimpleSpanProcessor       # noqa: E402
from opentelemetry.trace import Link, SpanKind, Status, StatusCode, set_span_in_context  # noqa: E402

if sys.argv[1] == "json":
    from opentelemetry.exporter.otlp.json.http.trace_exporter import OTLPSpanExporter
else:
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter


def fact(name, value):
    print("fact", name, json.dumps(value), flush=True)


class Watched(OTLPSpanExporter):
    """Notes what each export came to."""
    results = []

    def export(self, spans):
        result = super().export(spans)
        self.results.append(result.name)
        return result


def spans(tracer):
    ids = {}

    def start(name, parent=None, **more):
        span = tracer.start_span(name, context=set_span_in_context(parent) if parent else None, **more)
        ids[name] = format(span.get_span_context().span_id, "016x")
        return span

    root = start("root", kind=SpanKind.SERVER, attributes={"user.id": "py-user", "session.id": "py-session"})
    ids["trace"] = format(root.get_span_context().trace_id, "032x")
    root.set_attributes({
        "text": "naïve \U0001f600", "empty": "", "yes": True, "int": 42, "negative": -7,
        "max": 2 ** 63 - 1, "min": -2 ** 63,
        "double": 1.5, "huge": 1e300, "nan": float("nan"), "inf": float("inf"), "texts": ["a", "b"], "ints": [1, 2],
        "doubles": [1e300, 0.5], "bools": [True, False], "bytes": b"\x00\xff", "long": "x" * 20000})
    call = start("call", root, kind=SpanKind.CLIENT, attributes={
        "gen_ai.request.model": "gpt-4o-mini", "gen_ai.usage.input_tokens": 11, "gen_ai.usage.output_tokens": 22})
    call.add_event("first token", {"n": 1})
    call.end()
    broken = start("broken", root)
    broken.record_exception(ValueError("it broke"))
    broken.set_status(Status(StatusCode.ERROR, "it broke"))
    broken.end()
    past = start("past", root, start_time=1767323045678901234,
                  links=[Link(call.get_span_context(), {"why": "follows"})])
    past.end(1767323046789012345)
    root.end()
    return ids


def burst(provider):
    """Four threads, each span a request of its own, all in one trace; its id."""
    tracer = provider.get_tracer("burst")
    root = tracer.start_span("burst")
    context = set_span_in_context(root)

    def work(n):
        for i in range(10):
            tracer.start_span("n%d.%d" % (n, i), context=context).end()

    threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    root.end()
    return format(root.get_span_context().trace_id, "032x")


def big(tracer):
    """2,000 spans of 2 kB under one root, in a few large requests; the root's trace id."""
    root = tracer.start_span("big")
    context = set_span_in_context(root)
    for i in range(2000):
        tracer.start_span("s%d" % i, context=context,
                          attributes={"payload": "%d " % i * 400, "when": time.time()}).end()
    root.end()
    return format(root.get_span_context().trace_id, "032x")


provider = TracerProvider(resource=Resource.create({"service.name": "client-test", "service.version": "1.2"}))
provider.add_span_processor(BatchSpanProcessor(Watched(), max_queue_size=4096, max_export_batch_size=1000))
tracer = provider.get_tracer("client-test", "0.1")
fact("ids", spans(tracer))
provider.force_flush()
fact("big", big(tracer))
provider.shutdown()
single = TracerProvider()
single.add_span_processor(SimpleSpanProcessor(Watched()))
fact("burst", burst(single))
single.shutdown()
fact("results", Watched.results)
