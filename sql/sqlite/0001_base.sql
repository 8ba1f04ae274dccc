-- Telemetry, samples and catalog in one file. Times: ns since 1970 UTC. Ids: keys of base/id.h. See docs/storage.md.

-- Counters that must never be reused (next_tseq, next_pid, next_gen, next_run), the hash key of index entries and how
-- many bits of a hash they keep (0: not said yet), the version of the list of runs, keys_version.
CREATE TABLE state(k TEXT PRIMARY KEY, v ANY NOT NULL) STRICT, WITHOUT ROWID;
INSERT INTO state(k, v) VALUES ('next_tseq', 1), ('next_pid', 1), ('next_gen', 1), ('keys_version', 1),
                               ('hash_key', randomblob(16)), ('probe', 0), ('next_run', 1),
                               ('ix_bits', 0), ('ix_version', 1), ('ix_sealed', 0);

CREATE TABLE project(id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, created INT NOT NULL) STRICT;
CREATE TABLE api_key(
    id INTEGER PRIMARY KEY AUTOINCREMENT, project INT NOT NULL REFERENCES project(id), public_key TEXT NOT NULL UNIQUE,
    secret_hash BLOB NOT NULL, rights INT NOT NULL, name TEXT, created INT NOT NULL, revoked INT) STRICT;

-- A trace has a number in order of arrival; everything that belongs to it carries the number.
CREATE TABLE trace(
    tseq INTEGER PRIMARY KEY, project INT NOT NULL, id BLOB NOT NULL, spell INT NOT NULL, id_text TEXT,
    ts INT NOT NULL, ts_source INT NOT NULL,        -- enum ts_source
    created INT NOT NULL, updated INT NOT NULL,
    name TEXT, user TEXT, session TEXT, tags TEXT,  -- tags: JSON array of strings, NULL: never given
    env TEXT NOT NULL, release TEXT, version TEXT, label TEXT NOT NULL, external TEXT,
    public INT, bookmarked INT,                     -- NULL: never said
    latency REAL, cost_nano INT, cost_atto INT, cost_text TEXT,   -- as stated; base/money.h
    nobs INT NOT NULL DEFAULT 0, t0 INT, t1 INT,    -- of its observations: count, earliest start, latest end
    ocost_hi INT NOT NULL DEFAULT 0, ocost_lo INT NOT NULL DEFAULT 0, ocost_n INT NOT NULL DEFAULT 0, -- known costs
    pin INT, pout INT, pmeta INT                    -- payload numbers
) STRICT;
CREATE INDEX trace_ts ON trace(project, ts);

-- Narrow rows clustered by trace. `rest` packs what is rare (store/sqlite/packed.h).
CREATE TABLE obs(
    tseq INT NOT NULL, oid BLOB NOT NULL, project INT NOT NULL, spell INT NOT NULL,
    created INT NOT NULL, updated INT NOT NULL,
    start INT, end INT, completion INT, type TEXT NOT NULL, level TEXT, name TEXT, model TEXT, parent BLOB,
    tin INT, tout INT, ttotal INT,
    cost_nano INT, cost_atto INT,                   -- calculatedTotalCost, NULL: unknown
    cost_source INT,                                -- 1 given, 2 priced, 3 given in parts
    price INT,                                      -- which price made it
    pin INT, pout INT, pmeta INT, rest BLOB,
    prest INT,                                      -- payload number of a `rest` too long for the row
    PRIMARY KEY(tseq, oid)) STRICT, WITHOUT ROWID;
CREATE INDEX obs_ts ON obs(project, start);

-- A row holds n texts, numbered pid to pid + n - 1: one, or a pack of texts of one trace that came together. Numbers are
-- never reused: an update appends, the row points to the new one and the old one goes. z: see store/sqlite/payload.h.
CREATE TABLE payload(pid INTEGER PRIMARY KEY, n INT NOT NULL, z BLOB NOT NULL) STRICT;
-- Of packs that have lost texts: how many. A pack goes with its last text.
CREATE TABLE payload_gone(pid INTEGER PRIMARY KEY, n INT NOT NULL) STRICT;
-- Trained dictionaries of payloads (store/sqlite/dict.h); kept for ever. sum: SHA-256 of z.
CREATE TABLE dict(id INTEGER PRIMARY KEY AUTOINCREMENT, created INT NOT NULL, z BLOB NOT NULL, sum BLOB NOT NULL) STRICT;
-- Traces that are gone, but whose observations are still being removed, slice by slice.
CREATE TABLE trash(tseq INTEGER PRIMARY KEY) STRICT;

-- Turns, runs and steps that metadata names: which record (oid '': the trace itself) has which. An ordinary index, because
-- few records have them and those of one run come together. kind: enum record_key.
CREATE TABLE record_key(
    project INT NOT NULL, kind INT NOT NULL, v BLOB NOT NULL, tseq INT NOT NULL, oid BLOB NOT NULL,
    PRIMARY KEY(project, kind, v, tseq, oid)) STRICT, WITHOUT ROWID;
CREATE INDEX record_key_of ON record_key(tseq, oid);

-- Look-ups behind store/sqlite/lookup.h: sorted runs. An entry is a hint: every hit is compared with its row.
-- A row a group: its new entries (store/sqlite/index_log.c). Those up to state.ix_sealed are in runs and mean nothing.
CREATE TABLE ixlog(seq INTEGER PRIMARY KEY, z BLOB NOT NULL) STRICT;
-- state: 0 being built, 1 live, 2 dead. part: bytes of a part; lines: 64-byte lines of the filter. n_unpost: postings that
-- no longer hold. tseq1: highest trace; ts0, ts1: of its postings.
CREATE TABLE ixrun(
    run INTEGER PRIMARY KEY, state INT NOT NULL, level INT NOT NULL, part INT NOT NULL, lines INT NOT NULL,
    n_trace INT NOT NULL, n_obs INT NOT NULL, n_post INT NOT NULL, n_unpost INT NOT NULL,
    tseq1 INT NOT NULL, ts0 INT NOT NULL, ts1 INT NOT NULL) STRICT;
-- k = run << 32 | kind << 28 | number. kind: 0 trace ids, 1 observation ids, 2 postings, 3 those that no longer hold:
-- sorted entries, big-endian (hash 5, trace 5; hash 8, time 8, trace 5); 4 to 7 the first hash and time of each part of
-- kind - 4; 8 lines of the filter over trace ids.
CREATE TABLE ixblk(k INTEGER PRIMARY KEY, z BLOB NOT NULL) STRICT;

-- What each trace adds to the daily view, by model of its GENERATION observations ('' none, else '=' and the model).
-- Sums are 128-bit: value = hi * 10^18 + lo, 0 <= lo < 10^18; money counts 1e-18 USD.
CREATE TABLE trace_model(
    tseq INT NOT NULL, model TEXT NOT NULL, n INT NOT NULL,
    in_hi INT NOT NULL, in_lo INT NOT NULL, out_hi INT NOT NULL, out_lo INT NOT NULL,
    total_hi INT NOT NULL, total_lo INT NOT NULL, cost_hi INT NOT NULL, cost_lo INT NOT NULL,
    PRIMARY KEY(tseq, model)) STRICT, WITHOUT ROWID;
-- Rollups of the trace's timestamp, written in the transaction of the rows. level: 0 by hour and name, 1 by hour, 2 by day;
-- start: ns. name: of level 0, '' none, else '=' and the trace's name; else ''. label: projectId of the trace.
CREATE TABLE rollup_trace(
    project INT NOT NULL, level INT NOT NULL, start INT NOT NULL, name TEXT NOT NULL, label TEXT NOT NULL, env TEXT NOT NULL,
    n INT NOT NULL, nobs INT NOT NULL, cost_hi INT NOT NULL, cost_lo INT NOT NULL,
    PRIMARY KEY(project, level, start, name, label, env)) STRICT, WITHOUT ROWID;
CREATE TABLE rollup_model(
    project INT NOT NULL, level INT NOT NULL, start INT NOT NULL, name TEXT NOT NULL, label TEXT NOT NULL, env TEXT NOT NULL,
    model TEXT NOT NULL, n INT NOT NULL, ntrace INT NOT NULL,
    in_hi INT NOT NULL, in_lo INT NOT NULL, out_hi INT NOT NULL, out_lo INT NOT NULL,
    total_hi INT NOT NULL, total_lo INT NOT NULL, cost_hi INT NOT NULL, cost_lo INT NOT NULL,
    PRIMARY KEY(project, level, start, name, label, env, model)) STRICT, WITHOUT ROWID;

-- Traces by time alone, behind plain lists: by 10 s, hour and day (span: seconds).
CREATE TABLE rollup_count(
    project INT NOT NULL, span INT NOT NULL, start INT NOT NULL, n INT NOT NULL,
    PRIMARY KEY(project, span, start)) STRICT, WITHOUT ROWID;

-- Samples. What no generation holds yet is in the log, a row a group (store/sample/log.h): k = part << 32 | row. Keys
-- below 0: rows that could not be read, kept aside. state.next_gen: the first generation that is not sealed.
CREATE TABLE mlog(k INTEGER PRIMARY KEY, z BLOB NOT NULL) STRICT;
CREATE TABLE mname(id INTEGER PRIMARY KEY, project INT NOT NULL, name TEXT NOT NULL, UNIQUE(project, name)) STRICT;
-- A sealed generation. cut: points before it are gone; swept: so far they were removed.
CREATE TABLE mgen(
    gen INTEGER PRIMARY KEY, t0 INT NOT NULL, t1 INT NOT NULL, n INT NOT NULL, frows INT NOT NULL,
    cut INT NOT NULL DEFAULT -9223372036854775808, swept INT NOT NULL DEFAULT -9223372036854775808) STRICT;
-- What it has of one name: parts [first, first + parts), with n points that were not removed.
CREATE TABLE mdir(
    name INT NOT NULL, gen INT NOT NULL, first INT NOT NULL, parts INT NOT NULL, n INT NOT NULL, t0 INT NOT NULL,
    t1 INT NOT NULL, PRIMARY KEY(name, gen)) STRICT, WITHOUT ROWID;
CREATE INDEX mdir_gen ON mdir(gen, first);
-- Its parts (store/sample/pack.h) and filter rows (store/sample/filter.h): k = gen << 24 | number. raw is last: what
-- stands behind a long blob costs its pages.
CREATE TABLE mpack(
    k INTEGER PRIMARY KEY, n INT NOT NULL, t0 INT NOT NULL, t1 INT NOT NULL, lab BLOB NOT NULL, pts BLOB NOT NULL,
    raw BLOB NOT NULL) STRICT;
CREATE TABLE mfilter(k INTEGER PRIMARY KEY, z BLOB NOT NULL) STRICT;
