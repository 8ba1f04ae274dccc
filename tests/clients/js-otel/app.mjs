// Spans of OpenTelemetry's JS SDK through one exporter: `node app.mjs json|proto none|gzip URL`.
// What the SDK reports at level error goes to stderr, where the caller fails on it.
import { diag, DiagLogLevel, SpanKind, SpanStatusCode, trace, ROOT_CONTEXT } from "@opentelemetry/api";
import { OTLPTraceExporter as JsonExporter } from "@opentelemetry/exporter-trace-otlp-http";
import { OTLPTraceExporter as ProtoExporter } from "@opentelemetry/exporter-trace-otlp-proto";
import { resourceFromAttributes } from "@opentelemetry/resources";
import { BasicTracerProvider, BatchSpanProcessor, SimpleSpanProcessor } from "@opentelemetry/sdk-trace-base";

const [form, compression, url] = process.argv.slice(2);
const fact = (name, value) => console.log("fact", name, JSON.stringify(value));
const complain = (...args) => console.error("diag:", ...args);
diag.setLogger({ error: complain, warn: complain, info() {}, debug() {}, verbose() {} }, DiagLogLevel.WARN);

const Exporter = form === "json" ? JsonExporter : ProtoExporter;
const exporter = new Exporter({
  url, compression, headers: { Authorization: `Bearer ${process.env.XTRACE_TOKEN}` }, timeoutMillis: 10000,
});
const results = [];
const watched = {
  export: (spans, done) => exporter.export(spans, (r) => {
    results.push(r.code);
    if (r.error) complain(r.error);
    done(r);
  }),
  forceFlush: () => exporter.forceFlush(),
  shutdown: () => exporter.shutdown(),
};
const provider = new BasicTracerProvider({
  resource: resourceFromAttributes({ "service.name": "client-test", "service.version": "1.2" }),
  spanProcessors: [new BatchSpanProcessor(watched)],
});
const tracer = provider.getTracer("client-test", "0.1");
const ids = {};

function start(name, parent, options) {
  const span = tracer.startSpan(name, options, parent ? trace.setSpan(ROOT_CONTEXT, parent) : ROOT_CONTEXT);
  ids[name] = span.spanContext().spanId;
  return span;
}

const root = start("root", null, {
  kind: SpanKind.SERVER, attributes: { "user.id": "js-user", "session.id": "js-session" },
});
ids.trace = root.spanContext().traceId;
root.setAttributes({
  text: "naïve 😀", empty: "", yes: true, int: 42, negative: -7, max_safe: Number.MAX_SAFE_INTEGER,
  double: 1.5, huge: 1e300,
  tiny: 5e-324, texts: ["a", "b"], ints: [1, 2], doubles: [1e300, 0.5], long: "x".repeat(20000),
});
const call = start("call", root, {
  kind: SpanKind.CLIENT,
  attributes: { "gen_ai.request.model": "gpt-4o-mini", "gen_ai.usage.input_tokens": 11,
                "gen_ai.usage.output_tokens": 22 },
});
call.addEvent("first token", { n: 1 });
call.end();
const broken = start("broken", root);
broken.recordException(new Error("it broke"));
broken.setStatus({ code: SpanStatusCode.ERROR, message: "it broke" });
broken.end();
const past = start("past", root, {
  startTime: new Date("2026-01-02T03:04:05.678Z"), links: [{ context: call.spanContext() }],
});
past.end(new Date("2026-01-02T03:04:06.789Z"));
root.end();
await provider.forceFlush();

// One request for each of many spans at once, as many connections as the exporter likes.
const many = new BasicTracerProvider({ spanProcessors: [new SimpleSpanProcessor(watched)] });
const burst = many.getTracer("burst").startSpan("burst", {}, ROOT_CONTEXT);
ids.burst = burst.spanContext().traceId;
for (let i = 0; i < 25; i++)
  many.getTracer("burst").startSpan(`n${i}`, {}, trace.setSpan(ROOT_CONTEXT, burst)).end();
burst.end();
await many.forceFlush();
fact("ids", ids);
await many.shutdown();
fact("results", results);
