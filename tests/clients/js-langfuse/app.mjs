// An application traced with @langfuse/tracing and @langfuse/otel under the NodeSDK, read back with @langfuse/client
// and with the older package `langfuse`. Configured by the SDKs' own variables; `node app.mjs MARK`.
// Prints `ok - name` or `not ok - name: why`, and `fact NAME JSON` for what the caller looks up at the server.
import assert from "node:assert/strict";
import { LangfuseClient } from "@langfuse/client";
import { LangfuseSpanProcessor } from "@langfuse/otel";
import {
  createTraceId, observe, propagateAttributes, setActiveTraceAsPublic, setActiveTraceIO, startActiveObservation,
  startObservation, updateActiveObservation,
} from "@langfuse/tracing";
import { NodeSDK } from "@opentelemetry/sdk-node";
import { Langfuse } from "langfuse";

const mark = process.argv[2];
const fact = (name, value) => console.log("fact", name, JSON.stringify(value));

async function test(name, fn) {
  try {
    await fn();
    console.log("ok -", name);
  } catch (e) {
    console.log(`not ok - ${name}: ${e.name}: ${String(e.message).replace(/\s+/g, " ").slice(0, 800)}`);
  }
}

// A trace with every kind of observation; its ids by name.
async function nested() {
  const ids = {};
  const leaf = (name, asType, attributes = {}) => {
    const o = startObservation(name, attributes, { asType });
    ids[name] = o.id;
    o.end();
  };
  const kept = { userId: `user-${mark}`, sessionId: `session-${mark}`, tags: ["alpha", `run-${mark}`],
                 metadata: { tenant: "acme" }, version: "app-9", traceName: `chat ${mark}` };
  await startActiveObservation("root", async (root) => {
    ids.trace = root.traceId;
    ids.root = root.id;
    root.update({ input: { q: "capital? ✓" }, metadata: { s: "text", i: 7, b: true, nested: { x: [1, 2] } } });
    await propagateAttributes(kept, async () => {
      setActiveTraceIO({ input: { trace: "in" }, output: { trace: "out" } });
      setActiveTraceAsPublic();
      await startActiveObservation("planner", async (agent) => {
        ids.planner = agent.id;
        agent.update({ input: "plain text" });
        leaf("search", "tool", { input: { q: "France" }, output: ["doc1", "doc2"], level: "DEBUG" });
        leaf("lookup", "retriever", { input: "France", output: [{ id: 1 }] });
        leaf("embed", "embedding", { model: "text-embedding-3-small", usageDetails: { input: 4 },
                               costDetails: { input: 0.00001 } });
        const llm = startObservation("llm", {
          model: "gpt-4o", input: [{ role: "user", content: "capital?" }],
          modelParameters: { temperature: 0.1, max_tokens: 50 },
          completionStartTime: new Date(),
        }, { asType: "generation" });
        ids.llm = llm.id;
        llm.update({
          output: { role: "assistant", content: "Paris — naïve 😀" }, metadata: { finish: "stop" },
          usageDetails: { input: 12, output: 3, total: 20, input_cached_tokens: 5 },
          costDetails: { input: 0.0012, output: 0.0009, total: 0.0021 },
        });
        llm.end();
      }, { asType: "agent" });
      leaf("chain", "chain");
      leaf("judge", "evaluator", { output: 0.5 });
      leaf("guard", "guardrail", { level: "WARNING", statusMessage: "almost" });
      ids.event = startObservation("event", { input: { a: 1 }, metadata: { k: "v" } }, { asType: "event" }).id;
      await startActiveObservation("broken", async (o) => {
        ids.broken = o.id;
        throw new Error("it broke");
      }).catch(() => {});
    });
    root.update({ output: { a: "Paris" } });
  });
  return ids;
}

// observe(), a seeded trace id with a remote parent, and a span in the past.
async function others() {
  const ids = {};
  const wrapped = observe(async (a, b) => {
    updateActiveObservation({ metadata: { inside: "yes" } });
    return a + b;
  }, { name: "wrapped" });
  ids.seeded = await createTraceId(`seed ${mark}`);
  ids.parent = "0123456789abcdef";
  const remote = startObservation("remote", {}, {
    parentSpanContext: { traceId: ids.seeded, spanId: ids.parent, traceFlags: 1 },
    startTime: new Date("2026-01-02T03:04:05.678Z"),
  });
  remote.end(new Date("2026-01-02T03:04:06.789Z"));
  await startActiveObservation("around", async (o) => {
    ids.wrapped = o.traceId;
    assert.equal(await wrapped(1, 2), 3);
  });
  return ids;
}

const query = { userId: `user-${mark}`, limit: 10, orderBy: "timestamp.desc" };

async function readWithClient(ids) {
  const { api, getTraceUrl } = new LangfuseClient();
  await test("@langfuse/client api.trace.get", async () => {
    const t = await api.trace.get(ids.trace);
    assert.deepEqual([t.id, t.name, t.userId, t.sessionId, t.public],
                     [ids.trace, `chat ${mark}`, `user-${mark}`, `session-${mark}`, true]);
    assert.deepEqual(t.observations.map((o) => o.id).sort(),
                     Object.entries(ids).filter(([k]) => k !== "trace").map(([, v]) => v).sort());
    const o = t.observations.find((x) => x.name === "llm");
    assert.deepEqual([o.type, o.model, o.usageDetails.total, o.costDetails.total],
                     ["GENERATION", "gpt-4o", 20, 0.0021]);
  });
  await test("@langfuse/client api.trace.list, repeated tags and environments", async () => {
    const found = await api.trace.list({ ...query, page: 1, name: `chat ${mark}`, tags: ["alpha", `run-${mark}`],
      environment: ["staging", "other"], version: "app-9", release: "v1.2.3", sessionId: `session-${mark}`,
      fromTimestamp: new Date(Date.now() - 3600e3).toISOString(),
      toTimestamp: new Date(Date.now() + 60e3).toISOString() });
    assert.deepEqual(found.data.map((t) => t.id), [ids.trace]);
    assert.deepEqual(found.meta, { page: 1, limit: 10, totalItems: 1, totalPages: 1 });
    assert.deepEqual((await api.trace.list({ tags: ["alpha", `no-${mark}`] })).data, []);
  });
  await test("@langfuse/client api.projects.get", async () => {
    assert.equal((await api.projects.get()).data[0].id, "default");
  });
  await test("@langfuse/client api.trace.get of an unknown id is its 404", async () => {
    await assert.rejects(api.trace.get("0".repeat(31) + "9"), (e) => e.statusCode === 404);
  });
}

// The older package writes by a route of its own; its reads are those of the traces.
async function readWithLegacy(ids) {
  const langfuse = new Langfuse();
  await test("langfuse 3 fetchTraces, comma-joined tags", async () => {
    const found = await langfuse.fetchTraces({ ...query, tags: ["alpha", `run-${mark}`] });
    assert.deepEqual(found.data.map((t) => t.id), [ids.trace]);
    assert.equal(found.meta.totalItems, 1);
  });
  await test("langfuse 3 fetchTrace", async () => {
    const { data } = await langfuse.fetchTrace(ids.trace);
    assert.equal(data.name, `chat ${mark}`);
    assert.equal(data.observations.length, Object.keys(ids).length - 1);
  });
  await langfuse.shutdownAsync();
}

const processor = new LangfuseSpanProcessor();
const sdk = new NodeSDK({ spanProcessors: [processor] });
sdk.start();
const ids = await nested();
await processor.forceFlush();
fact("nested", ids);
fact("others", await others());
await sdk.shutdown();
await readWithClient(ids);
await readWithLegacy(ids);
