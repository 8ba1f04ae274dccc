"""An application traced with Langfuse's Python SDK, of major version 3, 4 or 5; configured by the SDK's own variables.

Prints `ok - name` or `not ok - name: why` for what the SDK itself can tell, and `fact NAME JSON` for what the caller
looks up at the server: ids, and the traces as the SDK read them.
"""
import datetime
import importlib.metadata
import json
import logging
import sys

logging.basicConfig(level=logging.WARNING, stream=sys.stderr)       # what the SDK complains about fails the test

from langfuse import Langfuse, observe, propagate_attributes        # noqa: E402  (it would set up logging)

MAJOR = int(importlib.metadata.version("langfuse").split(".")[0])
UTC = datetime.timezone.utc
MARK = sys.argv[1]                                                   # makes names of this run its own


def fact(name, value):
    print("fact", name, json.dumps(value, default=str), flush=True)


def case(name):
    def run(fn):
        try:
            fn()
            print("ok -", name, flush=True)
        except Exception as e:
            print("not ok - %s: %s: %s" % (name, type(e).__name__, " ".join(str(e).split())), flush=True)
    return run


def same(what, got, wanted):
    if got != wanted:
        raise AssertionError("%s: got %r, wanted %r" % (what, got, wanted))


def nested(lf):
    """A trace with every kind of observation; its ids by name."""
    ids = {}

    def inner(name, **more):
        with lf.start_as_current_observation(name=name, **more) as o:
            ids[name] = o.id
            return o

    with lf.start_as_current_observation(name="root", as_type="span", input={"q": "capital? ✓"},
                                         metadata={"s": "text", "i": 7, "b": True, "number text": "123",
                                                   "nested": {"x": [1, 2]}}) as root:
        ids["trace"], ids["root"] = root.trace_id, root.id
        with propagate_attributes(user_id="user-" + MARK, session_id="session-" + MARK, tags=["alpha", "run-" + MARK],
                                  metadata={"tenant": "acme"}, version="app-9", trace_name="chat " + MARK):
            with lf.start_as_current_observation(name="planner", as_type="agent", input="plain text") as agent:
                ids["planner"] = agent.id
                inner("search", as_type="tool", input={"q": "France"}, output=["doc1", "doc2"], level="DEBUG")
                inner("lookup", as_type="retriever", input="France", output=[{"id": 1}])
                inner("embed", as_type="embedding", model="text-embedding-3-small", usage_details={"input": 4},
                      cost_details={"input": 0.00001})
                with lf.start_as_current_observation(
                        name="llm", as_type="generation", model="gpt-4o",
                        input=[{"role": "user", "content": "capital?"}],
                        model_parameters={"temperature": 0.1, "max_tokens": 50}) as generation:
                    ids["llm"] = generation.id
                    generation.update(completion_start_time=datetime.datetime.now(UTC))
                    generation.update(output={"role": "assistant", "content": "Paris"},
                                      usage_details={"input": 12, "output": 3, "total": 20,
                                                     "cache_read_input_tokens": 5},
                                      cost_details={"input": 0.0012, "output": 0.0009, "total": 0.0021},
                                      metadata={"finish": "stop"})
            inner("chain", as_type="chain")
            inner("judge", as_type="evaluator", output=0.5)
            inner("guard", as_type="guardrail", level="WARNING", status_message="almost")
            ids["event"] = lf.create_event(name="event", input={"a": 1}, metadata={"k": "v"}).id
            try:
                with lf.start_as_current_observation(name="broken", as_type="span") as o:
                    ids["broken"] = o.id
                    raise ValueError("it broke")
            except ValueError:
                pass
        if MAJOR == 3:
            root.update_trace(public=True, input={"trace": "in"}, output={"trace": "out"})
        else:
            lf.set_current_trace_as_public()
            if MAJOR == 4:
                lf.set_current_trace_io(input={"trace": "in"}, output={"trace": "out"})
        root.update(output={"a": "Paris"})
    return ids


def decorated(lf):
    """Functions under @observe; the trace id of each."""
    ids = {}

    @observe(as_type="generation", name="model call")
    def model_call(text):
        lf.update_current_generation(model="m-1", usage_details={"input": 1, "output": 2}, cost_details={"total": 0.5})
        return text.upper()

    @observe()
    def plain(a, b=2):
        ids["plain"] = lf.get_current_trace_id()
        return {"sum": a + b, "said": model_call("hello")}

    @observe(name="stream")
    def stream():
        ids["stream"] = lf.get_current_trace_id()
        yield "one "
        yield "two"

    @observe(capture_input=False, capture_output=False)
    def failing(secret):
        ids["failing"] = lf.get_current_trace_id()
        raise RuntimeError("no luck")

    plain(1, b=4)
    list(stream())
    try:
        failing("hidden")
    except RuntimeError:
        pass
    return ids


def odd(lf):
    """Values that are hard to write: what arrives must be readable, whatever became of them."""
    deep = {}
    for _ in range(60):
        deep = {"d": deep}
    with lf.start_as_current_observation(name="odd \U0001f600 \u0000 end", as_type="span") as o:
        o.update(input={"nan": float("nan"), "inf": float("inf"), "big": 2 ** 80, "bytes": b"\x00\xff",
                        "when": datetime.datetime(2026, 1, 2, tzinfo=UTC), "set": {1}, "nul": "a\u0000b",
                        "emoji": "\U0001f600", "long": "x" * 20000},
                 output=deep, metadata={"empty": {}, "list": []})
        return o.trace_id


def read_back(lf, ids):
    """Reads by the SDK's own v1 routes, which version 5 no longer has."""
    @case("api.trace.get")
    def _():
        t = lf.api.trace.get(ids["trace"])
        same("id", t.id, ids["trace"])
        same("name", t.name, "chat " + MARK)
        same("user, session", (t.user_id, t.session_id), ("user-" + MARK, "session-" + MARK))
        same("tags", sorted(t.tags), ["alpha", "run-" + MARK])
        same("public", t.public, True)
        same("environment", t.environment, "staging")
        same("release", t.release, "v1.2.3")
        same("version", t.version, "app-9")
        same("input, output", (t.input, t.output), ({"trace": "in"}, {"trace": "out"}))
        same("observations", sorted(o.name for o in t.observations), sorted(set(ids) - {"trace"}))
        o = next(o for o in t.observations if o.name == "llm")
        same("id", o.id, ids["llm"])
        same("parent", o.parent_observation_id, ids["planner"])
        same("type, model", (o.type, o.model), ("GENERATION", "gpt-4o"))
        same("usage: all that is input, all that is output",
             (o.usage.input, o.usage.output, o.usage.total), (17, 3, 20))
        same("usage details", o.usage_details, {"input": 12, "output": 3, "total": 20, "cache_read_input_tokens": 5})
        same("cost details", o.cost_details, {"input": 0.0012, "output": 0.0009, "total": 0.0021})
        same("total cost", o.calculated_total_cost, 0.0021)

    @case("api.trace.list by user, session, name, tags, environment and time")
    def _():
        now = datetime.datetime.now(UTC)
        found = lf.api.trace.list(
            page=1, limit=10, user_id="user-" + MARK, session_id="session-" + MARK, name="chat " + MARK,
            from_timestamp=now - datetime.timedelta(hours=1), to_timestamp=now + datetime.timedelta(minutes=1),
            order_by="timestamp.desc", tags=["alpha", "run-" + MARK], version="app-9", release="v1.2.3",
            environment=["staging", "other"])
        same("ids", [t.id for t in found.data], [ids["trace"]])
        same("totals", (found.meta.page, found.meta.limit, found.meta.total_items, found.meta.total_pages),
             (1, 10, 1, 1))
        same("observations", len(found.data[0].observations), len(ids) - 1)
        same("one tag that it lacks", lf.api.trace.list(tags=["alpha", "no-" + MARK]).data, [])

    @case("api.trace.list with fields=core")
    def _():
        found = lf.api.trace.list(user_id="user-" + MARK, fields="core")
        same("ids", [t.id for t in found.data], [ids["trace"]])

    @case("api.trace.get of an unknown id raises its NotFoundError")
    def _():
        try:
            lf.api.trace.get("0" * 31 + "9")
        except Exception as e:
            same("error", (type(e).__name__, e.status_code), ("NotFoundError", 404))
        else:
            raise AssertionError("no error")


def main():
    lf = Langfuse()

    @case("auth_check")
    def _():
        same("answer", lf.auth_check(), True)

    ids = nested(lf)
    lf.flush()                      # the rest comes in later requests
    fact("nested", ids)
    fact("decorated", decorated(lf))
    fact("odd", odd(lf))
    lf.flush()
    if MAJOR < 5:
        read_back(lf, ids)

    @case("get_trace_url names the trace")
    def _():
        url = lf.get_trace_url(trace_id=ids["trace"])
        same("end of " + str(url), str(url).endswith("/project/default/traces/" + ids["trace"]), True)
    lf.shutdown()


main()
