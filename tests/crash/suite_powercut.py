#!/usr/bin/env python3
"""Power cut: what the disk may hold at any moment is rebuilt, and everything acknowledged by then is in it.

A preloaded library writes a journal of all changes, syncs and answers (tests/preload/journal.c); disk.py makes of it the
directory that a cut leaves, with unsynced blocks dropped or kept at random; a server is started on that.
"""
# timeout: 150
# store: campaign
import os
import random
import shutil
import signal
import sys
sys.dont_write_bytecode = True
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import disk
from facts import *

T = Suite()
SEED = int(os.environ.get("XTRACE_TEST_SEED", "0")) or random.randrange(1 << 30)
CUTS = int(os.environ.get("XTRACE_TEST_CUTS", "0")) or (200 if T.long else 14)
RECHECK = 120       # writes before a cut, and as many others, whose traces are read
rng = random.Random(SEED)
print("# seed %d, %d cuts" % (SEED, CUTS), flush=True)


class Record:
    """What was written, and the journal of it: answers are {request id: position in events}."""
    facts, events, answers, writes = [], [], {}, {}


def record(s):
    """Two lives of a server with an orderly stop between them; the second ends with kill -9."""
    s.env.update(preload(T, "journal"))
    os.mkdir(s.dir)
    s.dir = s.env["XTRACE_TEST_DIR"] = s.env["XTRACE_DATA_DIR"] = os.path.realpath(s.dir)
    journals, clients = [], None
    for life in range(2):
        journals.append(os.path.join(s.home, "journal-%d" % life))
        s.env["XTRACE_TEST_JOURNAL"] = journals[-1]
        s.start()
        clients = Clients(s, "life%d" % life, rng.random(), big=9000, observations=9)
        want = (150, 1200)[life]
        wait(lambda: clients.acked >= want or clients.odd, 60 * T.slow, "%d acknowledgements" % want)
        rc = s.stop(signal.SIGTERM if life == 0 else signal.SIGKILL)
        must(rc == (0 if life == 0 else -9), "ended with %s" % rc)
        clients.stop()
        must(not clients.odd, lambda: clients.odd[0])
        Record.facts += clients.facts
    Record.events = disk.read_journals(journals)
    for position, e in enumerate(Record.events):
        if e.kind == disk.ANSWER and disk.request_id(e):
            Record.answers.setdefault(disk.request_id(e), position)
    Record.writes = {w.rid: w for w in written()}


def written():
    return [w for f in Record.facts for w in f.writes]


def judge(position):
    """acknowledged() for a cut there. A client sends its next request when it has the answer to the last."""
    def acknowledged(w):
        if Record.answers.get(w.rid, 1 << 60) < position:
            return True
        client, _, number = w.rid.rpartition("-")
        before = Record.writes.get("%s-%d" % (client, int(number) - 1))
        return None if not before or before.state.answer != 200 or Record.answers[before.rid] < position else False
    return acknowledged


def look_at(position, mode, lie=False):
    """The problems of one cut: the directory as it may be before event `position`."""
    d = disk.Disk(live.dir, lie)
    d.play(Record.events[:position])
    target = T.tmp()
    d.image(target, mode, rng)

    acknowledged = judge(position)
    done = sorted((w for w in written() if acknowledged(w)), key=lambda w: Record.answers[w.rid])
    wanted = {w.rid for w in done[-RECHECK:]} | {w.rid for w in rng.sample(done, min(RECHECK, len(done)))}
    some = [f for f in Record.facts if isinstance(f, Points) or any(w.rid in wanted for w in f.writes)]
    wrong = deep_check(T, target) if done and not lie and rng.random() < 0.5 else None
    with T.server(dir=target) as s:
        s.start()
        problems = check(s, some, acknowledged, counts=False)
        problems += check_points(s, [f for f in some if isinstance(f, Points)], acknowledged)
        if not lie:
            wrong = wrong or deep_check(T, target)
        s.stop()
    shutil.rmtree(target, ignore_errors=True)
    return problems + ([wrong] if wrong else [])


def checkpoints(events):
    """Where pages are written to their places: the log's frames never begin at a whole page."""
    return [i for i, e in enumerate(events) if e.kind == disk.WRITE and len(e.data) == 4096 and e.a % 4096 == 0]


def cut_positions():
    """Random ones; right after answers; around syncs of the database file (checkpoints, the orderly stop); early ones."""
    events, answers = Record.events, sorted(Record.answers.values())
    first = answers[0]
    pages = [i for i in checkpoints(events) if i > first]
    out = []
    for k in range(CUTS):
        kind = k % 7
        if kind in (0, 1):
            out.append((rng.choice(answers) + 1, "synced"))
        elif kind in (2, 3):
            out.append((rng.choice(answers) + 1, "some"))
        elif kind == 4 and pages:
            out.append((rng.choice(pages) + rng.randrange(3), "some"))
        elif kind == 5:
            out.append((rng.randrange(1, first), rng.choice(("synced", "some"))))
        else:
            out.append((rng.randrange(first, len(events)), rng.choice(("synced", "some", "some", "all"))))
    return out


with T.server() as live:
    @T.case("8 clients write, the server is stopped, started again and killed, all under the journal")
    def _():
        record(live)
        kinds = [e.kind for e in Record.events]
        acked = sum(1 for w in written() if answered(w))
        must(acked > 500, "%d writes acknowledged" % acked)
        missing = [w.rid for w in written() if answered(w) and w.rid not in Record.answers]
        must(not missing, lambda: "the journal lacks the answer to " + missing[0])
        must(kinds.count(disk.SYNC) > 20 and kinds.count(disk.WRITE) > 1000, "%d syncs, %d writes" % (kinds.count(disk.SYNC), kinds.count(disk.WRITE)))
        print("# %d writes of files, %d of them of the database itself, %d syncs, %d answers, %d MB" % (
              kinds.count(disk.WRITE), len(checkpoints(Record.events)), kinds.count(disk.SYNC), kinds.count(disk.ANSWER),
              sum(len(e.data) for e in Record.events) >> 20), flush=True)

if Record.answers:
    for number, (position, mode) in enumerate(cut_positions()):
        @T.case("cut %d: before step %d of %d, %s" % (number + 1, position, len(Record.events), {
            "synced": "nothing unsynced is left", "some": "a random part of what is unsynced is left", "all": "all is left"}[mode]))
        def _():
            problems = look_at(position, mode)
            must(not problems, lambda: "seed %d: %d problems, first: %s" % (SEED, len(problems), problems[0]))

    @T.case("on a disk that ignores syncs the same cut loses what was acknowledged: these tests can fail")
    def _():
        last = sorted(Record.answers.values())[-1] + 1
        try:
            problems = look_at(last, "synced", lie=True)
        except AssertionError:
            return                          # not even a start
        must(problems, "nothing was lost")

    @T.case("a token that was made is there after every cut that follows the first acknowledged write")
    def _():
        with T.server({"API_BEARER_TOKEN": None}) as s:
            os.mkdir(s.dir)
            directory = os.path.realpath(s.dir)
            journal = os.path.join(s.home, "journal")
            s.env.update({"XTRACE_DATA_DIR": directory, "XTRACE_TEST_DIR": directory, "XTRACE_TEST_JOURNAL": journal, **preload(T, "journal")})
            s.start()
            with open(os.path.join(directory, "token")) as f:
                token = f.read()
            s.batch({"id": uid()}, auth=bearer(token.strip()))
            s.kill()
            events = disk.read_journals([journal])
            first = max(i for i, e in enumerate(events) if e.kind == disk.ANSWER)
            for mode in ("synced", "some"):
                d = disk.Disk(directory)
                d.play(events[:first + 1])
                target = T.tmp()
                names = d.image(target, mode, rng)
                must("token" in names, "%s: the directory holds %s" % (mode, sorted(names)))
                with open(os.path.join(target, "token")) as f:
                    must(f.read() == token, "another token")

T.done()
