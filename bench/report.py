"""The tables of bench/run: budgets beside what was measured, then writing, reading, the rest. `m` holds medians by name."""
import statistics

BEGIN = "<!-- measured: written by bench/run --write -->"
END = "<!-- end of what is measured; notes follow -->"

WRITING = [  # key, text, yardstick of SQLite, of HTTP
    ("native", "observations of 600 B, native JSON, 100 a body", "ceiling 600", "sink native 600"),
    ("store", "the same on the large store", "ceiling 600", "sink native 600"),
    ("updates", "100 observations of 600 B and the later halves of 10 earlier ones a body", "ceiling 600", "sink native 600"),
    ("native 5 KB", "observations of 5 KB, native JSON, 100 a body", "ceiling 5000", "sink native 5000"),
    ("otlp", "spans of 600 B, OTLP protobuf, 100 a body", "ceiling 600", "sink otlp 600"),
    ("otlp 5 KB", "spans of 5 KB, OTLP protobuf, 100 a body", "ceiling 5000", "sink otlp 5000"),
    ("fill", "loading the history", "ceiling 600", "sink otlp 600"),
    ("agent", "agent's calls, 30 to a trace, each repeats the turns before it", None, None),
    ("points 50", "points in 50 series, JSON, 500 a body", None, "sink points-1600 0"),
    ("points 1600", "points in 1,600 series", None, "sink points-1600 0"),
    ("points 5000", "points in 5,000 series", None, "sink points-1600 0"),
    ("points once", "points with a new series each", None, "sink points-once 0"),
]

READING = [
    ("trace", "trace by id with its 10 observations"), ("observation", "observation by its id alone"),
    ("list", "newest 50"), ("user-common", "newest 50 of a common user"), ("user-rare", "of a rare user"),
    ("user-range", "of a user within hours"), ("session", "of a session"), ("tag-common", "of a common tag"),
    ("tag-once", "of a tag used once"), ("name", "by name"), ("range", "50 of some hours, from and to"),
    ("deep", "a page far down"), ("daily", "daily metrics, 30 days"),
]

SERIES = [
    ("query", "1 M points of 50 series to 1 m buckets"), ("query-series", "one of these series, last value a minute"),
    ("group", "p99 by span_name to 1 m buckets, over 1 M series with one point"), ("trace-id", "the point of one trace_id"),
    ("names", "names of all metrics"),
]


def budgets(big):
    """what, limit, unit, key, True: at least."""
    lists = [("newest 50", "list"), ("of a user", "user-common"), ("of a session", "session"), ("of a common tag", "tag-common"),
             ("of a tag used once", "tag-once"), ("by name", "name"), ("observation by id alone", "observation")]
    rows = [
        ("observations of 600 B, fresh store", 60000, "/s", "native|0|rate", True),
        ("aim", 100000, "/s", "native|0|rate", True),
        ("the same at %s" % big, 50000, "/s", "store|%s|rate" % big, True),
        ("aim", 80000, "/s", "store|%s|rate" % big, True),
        ("with updates at %s" % big, 50000, "/s", "updates|%s|rate" % big, True),
        ("rate at %s : rate when empty" % big, 0.8, "", "ratio", True),
        ("ack p99, fresh", 100, "ms", "native|0|p99", False),
        ("ack p99 at %s" % big, 100, "ms", "store|%s|p99" % big, False),
        ("commit of a group, p99 at %s" % big, 30, "ms", "store|%s|commit p99" % big, False),
        ("observations of 5 KB, fresh", 20000, "/s", "native 5 KB|0|rate", True),
        ("the same at %s" % big, 15000, "/s", "native 5 KB|%s|rate" % big, True),
        ("spans over OTLP, 600 B", 40000, "/s", "otlp|0|rate", True),
        ("trace by id, p50", 1, "ms", "trace|idle|%s|p50" % big, False),
        ("trace by id, p99", 3, "ms", "trace|idle|%s|p99" % big, False),
    ]
    rows += [("%s, p50" % text, 2, "ms", "%s|idle|%s|p50" % (mode, big), False) for text, mode in lists]
    rows += [("%s, cold file, p50" % text, 10, "ms", "%s|cold|%s|p50" % (mode, big), False) for text, mode in lists]
    rows += [("%s, beside a writer at full rate, p50" % text, 10, "ms", "%s|full|%s|p50" % (mode, big), False)
             for text, mode in [("trace by id", "trace")] + lists if mode != "name"]
    return rows + [
        ("daily metrics over 30 days, p50", 10, "ms", "daily|idle|%s|p50" % big, False),
        ("1 M points of 50 series to 1 m buckets, p50", 40, "ms", "query|idle|points|p50", False),
        ("points in 1,600 series", 300000, "/s", "points 1600|0|rate", True),
        ("points in 5,000 series", 300000, "/s", "points 5000|0|rate", True),
        ("points with a new series each", 150000, "/s", "points once|0|rate", True),
        ("bytes of an integer gauge's point", 2, "B", "points 1600|0|bytes", False),
        ("group_by p99 over 1 M one-point series, p50", 100, "ms", "group|idle|points|p50", False),
        ("idle: resident", 14, "MB", "idle rss", False),
        ("idle: private", 5, "MB", "idle anon", False),
        ("idle: wake-ups of all threads", 1, "/s", "idle wakeups", False),
        ("start to ready after an orderly stop", 50, "ms", "start|orderly", False),
        ("start to ready after kill -9", 2000, "ms", "start|killed", False),
        ("program, stripped", 5, "MB", "binary", False),
        ("lone small write, beyond fdatasync", 1, "ms", "lone beyond", False),
    ]


PG_WRITING = [  # key, text, yardsticks
    ("pg native|0", "observations of 600 B, native JSON, 100 a body", "pg original 600", "pg copy 600"),
    ("pg native 5 KB|0", "observations of 5 KB", "pg original 5000", "pg copy 5000"),
    ("pg otlp|0", "spans of 600 B, OTLP protobuf", "pg original 600", "pg copy 600"),
    ("pg fill|0", "loading 1.2 M observations, OTLP", "pg original 600", "pg copy 600"),
    ("pg store|1.2 M", "observations of 600 B, 1.2 M stored", "pg original 600", "pg copy 600"),
    ("pg updates|1.2 M", "and the later halves of 10 earlier ones a body", "pg original 600", "pg copy 600"),
    ("pg points 1600|0", "points in 1,600 series, JSON, 500 a body", None, None),
    ("pg points 50|0", "points in 50 series", None, None),
    ("pg points once|0", "points with a new series each", None, None),
]
PG_BUDGETS = [
    ("observations of 600 B, fresh database", 33000, "/s", "pg native|0|rate", True),
    ("aim", 66000, "/s", "pg native|0|rate", True),
    ("observations of 5 KB, fresh database", 17000, "/s", "pg native 5 KB|0|rate", True),
    ("600 B : COPY and upsert alone", 0.6, "", "pg share", True),
    ("newest 50 at 1.2 M observations, p50", 10, "ms", "list|pg|1.2 M|p50", False),
    ("daily metrics at 1.2 M observations, p50", 10, "ms", "daily|pg|1.2 M|p50", False),
    ("points in 1,600 series", 300000, "/s", "pg points 1600|0|rate", True),
    ("server, resident after the load", 200, "MB", "pg rss", False),
]


def number(v, unit=""):
    if v is None:
        return "-"
    digits = 0 if abs(v) >= 100 or v == 0 else 1 if abs(v) >= 10 else 2
    return "{:,.{}f}".format(v, digits) + (unit if unit in ("", "/s") else " " + unit)


def row(*cells):
    return "| " + " | ".join(cells) + " |"


def table(headings, rows):
    return "\n".join([row(*headings), row(*["---"] * len(headings))] + [row(*r) for r in rows])


def verdict(what, value, limit, least):
    """By how much it is missed, or how many times it is beaten."""
    if value is None:
        return "not measured"
    if (value >= limit) if least else (value <= limit):
        times = value / limit if least else limit / max(value, limit / 1000)
        return "met" + (" (%.1f x)" % times if times >= 1.15 else "")
    short = 100 * ((limit - value) / limit if least else (value - limit) / limit)
    by = "by %.0f %%" % short if least or short < 200 else "%.1f times the limit" % (value / limit)
    return "short %s" % by if what == "aim" else "**missed %s**" % by


def runs_of(key, unit, numbers):
    """Lowest to highest of the runs."""
    v = numbers.get(key, [])
    return "%s to %s" % (number(min(v), unit), number(max(v), unit)) if len(v) > 1 else ""


def postgres_tables(m, facts):
    """What bench/postgres.py measured; nothing when it did not."""
    if not any(k.startswith("pg ") for k in m):
        return ""
    rows = [(what, "%s %s %s" % (">" if least else "<", number(limit), unit), number(m.get(key), unit),
             runs_of(key, unit, facts["numbers"]), verdict(what, m.get(key), limit, least))
            for what, limit, unit, key, least in PG_BUDGETS]
    writing = []
    for key, text, original, copy in PG_WRITING:
        if key + "|rate" in m:
            rate = m[key + "|rate"]
            writing.append((text, number(rate), "%s / %s / %s" % tuple(number(m.get("%s|%s" % (key, p))) for p in ("p50", "p99", "max")),
                            number(m.get(key + "|bytes"), "B") if key + "|bytes" in m else "-", number(m.get(key + "|cpu")),
                            number(m.get(key + "|rss")), *["%.2f" % (rate / m[y]) if m.get(y) else "-" for y in (original, copy)]))
    reads = [(text, pair(m, mode + "|pg|1.2 M")) for mode, text in READING if mode + "|pg|1.2 M|p50" in m]
    reads += [(text, pair(m, mode + "|pg|points")) for mode, text in SERIES if mode + "|pg|points|p50" in m]
    yards = [(text, *[number(m.get("pg %s %d" % (what, size)), "/s") for size in (600, 5000)])
             for what, text in (("copy", "COPY and upsert alone, one connection"), ("original", "two statements an observation, as the original"))]
    return "\n\n".join([
        "### On PostgreSQL, in a cluster of its own on the same cores", table(["budget", "", "measured", "of all runs", ""], rows),
        table(["writing, 32 connections", "records/s", "ack p50 / p99 / max, ms", "in the database each", "server CPU each, us", "RSS at peak, MB",
               "of the original's pattern", "of COPY and upsert"], writing),
        table(["reading 1.2 M observations, 1 connection: p50 / p99, ms", ""], reads),
        table(["yardstick", "600 B", "5 KB"], yards)])


def budget_table(m, facts):
    rows = [(what, "%s %s %s" % (">" if least else "<", "{:,g}".format(limit) if limit < 1000 else "{:,.0f}".format(limit), unit),
             number(m.get(key), unit), runs_of(key, unit, facts["numbers"]), verdict(what, m.get(key), limit, least))
            for what, limit, unit, key, least in budgets(facts["big"])]
    return table(["budget", "", "measured", "of all runs", ""], rows)


def writing_table(m, facts):
    rows = []
    for key, text, sqlite, http in WRITING:
        for size in dict.fromkeys(facts["sizes"] + ["1 M"]):
            k = "%s|%s|" % (key, size)
            if k + "rate" not in m:
                continue
            rate = m[k + "rate"]
            share = ["%.2f" % (rate / m[y]) if y in m else "-" for y in (sqlite, http)]
            rows.append((text if size == facts["sizes"][0] or key == "fill" else text.split(",")[0], size, number(rate),
                         number(m.get(k + "slowest")), "%s / %s / %s" % tuple(number(m.get(k + p)) for p in ("p50", "p99", "max")),
                         "%s / %s + %s" % tuple(number(m.get(k + p)) for p in ("commit p50", "commit p99", "tidy p99")),
                         number(m.get(k + "bytes"), "B") if k + "bytes" in m else "-", number(m.get(k + "cpu")),
                         "%s / %s" % (number(m.get(k + "rss")), number(m.get(k + "anon"))), *share))
    return table(["writing, 32 connections", "stored before", "records/s", "slowest second", "ack p50 / p99 / max, ms",
                  "group p50 / p99 + p99 of checkpoint work after it, <= ms", "on disk each, free pages aside", "server CPU each, us", "RSS / private at peak, MB", "of SQLite alone",
                  "of HTTP alone"], rows)


def thread_table(m, facts):
    names = sorted({k.split("|cpu ")[1] for k in m if "|cpu " in k})
    rows = []
    for key, text, _, _ in WRITING:
        for size in facts["sizes"]:
            k = "%s|%s|" % (key, size)
            if k + "cpu" in m:
                rows.append((text, size, *[number(m.get(k + "cpu " + n)) for n in names], number(m.get(k + "generator"))))
    used = [i for i in range(len(names)) if any(r[2 + i] not in ("-", "0.00") for r in rows)]
    return table(["CPU, us a record", "stored before"] + [names[i] for i in used] + ["load generator"],
                 [(r[0], r[1], *[r[2 + i] for i in used], r[-1]) for r in rows])


def pair(m, key, least_n=500):
    if key + "|p50" not in m:
        return "-"
    n = m.get(key + "|n", 0)
    return "%s / %s%s" % (number(m[key + "|p50"]), number(m[key + "|p99"]), " (n=%d)" % n if n and n < least_n else "")


def reading_table(m, facts):
    big = facts["big"]
    states = [("idle", s) for s in facts["sizes"]] + [("full", s) for s in facts["sizes"][1:]] + [("steady", big)]
    rows = []
    for mode, text in READING:
        cells = [pair(m, "%s|%s|%s" % (mode, state, size)) for state, size in states]
        cold = "%s|cold|%s" % (mode, big)
        rows.append((text, *cells, "%s; %s" % (number(m[cold + "|first"]), pair(m, cold, 150)) if cold + "|first" in m else "-"))
    rows.append(("*the writer beside: records/s*", *[
        number(m.get("writer|%s|%s|rate" % (state, size))) if state != "idle" else "" for state, size in states], ""))
    rows.append(("*its acks p50 / p99*", *[pair(m, "writer|%s|%s" % (state, size)) if state != "idle" else "" for state, size in states], ""))
    names = {"idle": "idle", "full": "writer at full rate", "steady": "writer at 40 k/s"}
    heads = ["%s, %s" % (size if size != "0" else "20 k", names[state]) for state, size in states]
    text = table(["reading, 1 connection: p50 / p99, ms"] + heads + ["%s, cold file: first; p50 / p99" % big], rows)
    series = [(what, pair(m, mode + "|idle|points", 150), pair(m, mode + "|full|points", 150)) for mode, what in SERIES]
    beside = "beside a writer of %s points/s" % number(m.get("writer|full|points|rate"))
    return text + "\n\n" + table(["metric queries: p50 / p99, ms", "idle", beside], series)


def rest_table(m, facts):
    big = facts["big"]
    got = lambda key, unit="": number(m.get(key), unit)  # noqa: E731
    rows = [
        ("one small write, alone: p50 / p99", "%s / %s ms" % (got("lone p50"), got("lone p99")),
         "fdatasync of 4 KB: %s / %s ms" % (got("sync p50"), got("sync p99"))),
        ("GET /healthz, 32 connections", got("healthz", "/s"), "HTTP and the load generator, no store"),
        ("SQLite alone, observations of 600 B / 5 KB", "%s / %s" % (got("ceiling 600", "/s"), got("ceiling 5000", "/s")),
         "rows of this shape, nothing decoded or compressed, empty file"),
        ("HTTP alone, bodies of 100 observations, 600 B / 5 KB", "%s / %s" % (got("sink native 600", "/s"), got("sink native 5000", "/s")),
         "the same library reads each body and answers"),
        ("HTTP alone, spans of 600 B / points", "%s / %s" % (got("sink otlp 600", "/s"), got("sink points-1600 0", "/s")), ""),
        ("idle, 2 s after a start on an empty store", "%s RSS, %s private" % (got("idle rss", "MB"), got("idle anon", "MB")),
         "%s wake-ups/s, CPU %s s a second" % (got("idle wakeups"), got("idle cpu"))),
        ("start to ready, empty store", got("start|empty", "ms"), ""),
        ("start to ready at %s: orderly / kill -9 / cold file" % big,
         "%s / %s / %s" % (got("start|orderly", "ms"), got("start|killed", "ms"), got("start|cold", "ms")),
         "slowest: %s orderly, %s after kill -9" % (got("start|orderly max", "ms"), got("start|killed max", "ms"))),
        ("orderly stop at %s" % big, got("stop", "ms"), ""),
        ("on disk at %s, each observation" % big, got("bytes", "B"), "%s observations of all rows above, of 600 B" % got("observations at the end")),
        ("largest write-ahead log", got("wal", "MB"), ""),
        ("memory at the end: resident / private", "%s / %s" % (got("memory after", "MB"), got("memory after anon", "MB")), ""),
    ]
    return table(["else", "", "yardstick"], rows)


def tables(numbers, facts):
    """Markdown. `numbers`: what was noted in each run, by name."""
    numbers, big = dict(numbers), facts["big"]
    for what, first, second, make in (("ratio", "store|%s|rate" % big, "store|0|rate", lambda a, b: a / b if b else 0),
                                      ("lone beyond", "lone p50", "sync p50", lambda a, b: a - b),
                                      ("pg share", "pg native|0|rate", "pg copy 600", lambda a, b: a / b if b else 0)):
        if numbers.get(first) and numbers.get(second):
            numbers[what] = [make(a, b) for a, b in zip(numbers[first], numbers[second])]
    medians = {what: statistics.median(v) for what, v in numbers.items()}
    facts = dict(facts, numbers=numbers)
    parts = [budget_table, writing_table, reading_table, rest_table, thread_table]
    if not any(not k.startswith("pg ") and "|pg|" not in k for k in medians):
        parts = []
    parts += [postgres_tables]
    return "\n\n".join(filter(None, (part(medians, facts) for part in parts)))
