"""xtrace's own Python SDK: batches, the wrapper for OpenAI's client, and metrics; configured by its own variables.

The wrapped client is a stand-in with OpenAI's attributes: this is about what the SDK sends, not about a model.
"""
import datetime
import json
import sys
import time
import types

from xtrace_sdk import XTraceClient, observe_openai

MARK = sys.argv[1]
Obj = types.SimpleNamespace


def fact(name, value):
    print("fact", name, json.dumps(value), flush=True)


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


def create(stream=False, **_):
    usage = Obj(prompt_tokens=5, completion_tokens=7, total_tokens=12)
    if not stream:
        return Obj(choices=[Obj(message=Obj(content="four"))], usage=usage)
    parts = [Obj(choices=[Obj(delta=Obj(content=text))], usage=None) for text in ("fo", "ur")]
    return iter(parts + [Obj(choices=[], usage=usage)])


xtrace = XTraceClient()
openai = observe_openai(Obj(chat=Obj(completions=Obj(create=create))), xtrace=xtrace, name="chat " + MARK,
                        user_id="user-" + MARK,
                        session_id="session-" + MARK, tags=["alpha", "run-" + MARK], metadata={"tenant": "acme"})
messages = [{"role": "user", "content": "2+2? ✓"}]


@case("a wrapped call returns what the client returned")
def _():
    answer = openai.chat.completions.create(model="m-1", messages=messages,
                                            metadata={"step_id": "s1", "step_type": "llm_call"})
    same("answer", answer.choices[0].message.content, "four")


@case("a wrapped stream yields what the client yielded")
def _():
    chunks = list(openai.chat.completions.create(model="m-1", messages=messages, stream=True))
    same("chunks", len(chunks), 3)


# A trace in two pieces, as two workers would write it.
trace, span, generation = (XTraceClient.new_id() for _ in range(3))
xtrace.enqueue_batch({"trace": {"id": trace, "name": "pieces " + MARK, "tags": []},
                      "observations": [{"id": span, "traceId": trace, "type": "SPAN", "name": "outer"}]})
end = time.monotonic() + 15


def sent(count):
    """The worker says what it has sent; `flush` only waits for its queue to be taken."""
    while xtrace.sent_batches + xtrace.failed_batches < count and time.monotonic() < end:
        time.sleep(0.02)


sent(3)
xtrace.enqueue_batch({"trace": None, "observations": [{"id": generation, "traceId": trace, "parentObservationId": span,
                                                       "type": "GENERATION", "name": "inner", "output": {"a": 1}}]})
sent(4)
fact("trace", {"id": trace, "span": span, "generation": generation})


@case("all batches are sent, none is given up")
def _():
    same("sent, failed, dropped", (xtrace.sent_batches, xtrace.failed_batches, xtrace.dropped_events), (4, 0, 0))


now = datetime.datetime.now(datetime.timezone.utc)
name = "gpu:" + MARK


@case("push_metrics")
def _():
    answer = xtrace.push_metrics([
        {"name": name, "value": 80, "timestamp": now - datetime.timedelta(minutes=2), "labels": {"node": "a", "n": 1}},
        {"name": name, "value": 90.5, "timestamp": (now - datetime.timedelta(minutes=1)).isoformat(),
         "labels": {"node": "a", "n": 1}},
        {"name": name, "value": 1, "timestamp": now, "labels": None}])
    same("answer", answer, {"message": "Request Successful."})


@case("metrics_names")
def _():
    names = xtrace.metrics_names()
    same("sorted", names, sorted(names))
    same("ours among them", name in names, True)


@case("metrics_query")
def _():
    answer = xtrace.metrics_query(name=name, from_ts=now - datetime.timedelta(hours=1), to_ts=now, labels={"node": "a"},
                                  step="1h", agg="max")
    same("series", [s["labels"] for s in answer["data"]], [{"node": "a", "n": "1"}])
    same("values", max(v["value"] for v in answer["data"][0]["values"]), 90.5)
    same("all series", len(xtrace.metrics_query(name=name)["data"]), 2)
    same("unknown", xtrace.metrics_query(name="none-" + MARK),
         {"data": [], "meta": {"series_count": 0, "truncated": False}})


xtrace.shutdown()
