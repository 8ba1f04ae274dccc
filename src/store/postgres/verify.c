/* verify.c -- the deep self-test: what is kept beside the rows (sums of a trace, keys of tags, rollups, texts) is found
 * anew from them by the database itself and compared, in the caller's snapshot. Each check is one statement that counts
 * what is wrong; a count is a line of the report.
 *
 *  1. Observations and texts whose trace retention has removed stay until their week goes: they are no findings.
 *  2. Times are floored as base/clock.h does it: the first interval of all time is short. */
#include "store/postgres/verify.h"

#define HOUR "3600000000000"
#define DAY "86400000000000"
#define OVER(ts, span) "(" ts " % " span " + " span ") % " span
#define FLOORED(ts, span) "greatest(" ts "::numeric - " OVER(ts, span) ", -9223372036854775807)::int8"
#define LEVEL_START FLOORED("t.ts", "l.span")
#define SPAN_START FLOORED("t.ts", "(s.span * 1000000000::int8)")
#define LEVELS "(VALUES (0::int2, " HOUR "::int8), (1::int2, " HOUR "), (2::int2, " DAY ")) AS l(level, span)"
#define NAMED "CASE WHEN l.level = 0 THEN coalesce('=' || t.name, '') ELSE '' END"
/* Every text that a row points to, and the row that holds it. */
#define REFERENCES                                                                               \
    "(SELECT t.week, p.pid FROM xtrace.trace t, unnest(ARRAY[t.pin, t.pout, t.pmeta]) AS p(pid)" \
    " WHERE p.pid IS NOT NULL UNION ALL"                                                         \
    " SELECT o.week, p.pid FROM xtrace.observation o JOIN xtrace.trace t USING (tseq),"          \
    " unnest(ARRAY[o.pin, o.pout, o.pmeta]) AS p(pid) WHERE p.pid IS NOT NULL) AS k"
#define ROW_OF_TEXT                                                                             \
    "(SELECT p.pid, p.n, p.gone FROM xtrace.payload p WHERE p.week = k.week AND p.pid <= k.pid" \
    " ORDER BY p.pid DESC LIMIT 1) AS r"

#define SQL_SUMS                                                                                     \
    "SELECT count(*) FROM xtrace.trace t LEFT JOIN"                                                  \
    " (SELECT week, tseq, count(*) AS n, min(start_at) AS t0, max(end_at) AS t1, sum(cost) AS cost," \
    "  count(cost) AS ncost FROM xtrace.observation GROUP BY week, tseq) o USING (week, tseq)"       \
    " WHERE t.nobs <> coalesce(o.n, 0) OR t.t0 IS DISTINCT FROM o.t0 OR t.t1 IS DISTINCT FROM o.t1"  \
    " OR t.ocost <> coalesce(o.cost, 0) OR t.ocost_n <> coalesce(o.ncost, 0)"
#define SQL_TIMES                                                                                       \
    "SELECT count(*) FROM xtrace.trace WHERE NOT CASE ts_source WHEN 1 THEN ts IS NOT DISTINCT FROM t0" \
    " WHEN 2 THEN true ELSE ts = created AND t0 IS NULL END"
#define SQL_PLACES                                                               \
    "SELECT count(*) FROM xtrace.observation o JOIN xtrace.trace t USING (tseq)" \
    " WHERE o.project <> t.project OR o.week <> t.week"
#define SQL_WEEKS "SELECT count(*) FROM xtrace.trace WHERE week <> floor(created::numeric / 604800000000000)"
#define SQL_TAGS                                                                                 \
    "SELECT count(*) FROM (SELECT DISTINCT t.project, g.v, t.ts, t.tseq FROM xtrace.trace t,"    \
    " unnest(t.tags) AS g(v) WHERE octet_length(g.v) <= 200) w LEFT JOIN xtrace.trace_key k"     \
    " ON k.project = w.project AND k.kind = 1 AND k.v = w.v AND k.ts = w.ts AND k.tseq = w.tseq" \
    " WHERE k.tseq IS NULL"
#define SQL_KEYS                                                                         \
    "SELECT count(*) FROM (SELECT t.tseq, count(DISTINCT g.v) AS n FROM xtrace.trace t," \
    " unnest(t.tags) AS g(v) GROUP BY t.tseq) w FULL JOIN (SELECT tseq, count(*) AS n"   \
    " FROM xtrace.trace_key WHERE kind = 1 GROUP BY tseq) k USING (tseq) WHERE w.n IS DISTINCT FROM k.n"
#define SQL_ROLLUP_TRACE                                                              \
    "SELECT count(*) FROM (SELECT t.project, l.level, " LEVEL_START " AS start,"      \
    " " NAMED " AS name, t.label, t.env, count(*) AS n, sum(t.nobs) AS nobs,"         \
    " sum(coalesce(t.cost, t.ocost)) AS cost FROM xtrace.trace t CROSS JOIN " LEVELS  \
    " GROUP BY 1, 2, 3, 4, 5, 6) w FULL JOIN xtrace.rollup_trace r"                   \
    " USING (project, level, start, name, label, env) WHERE w.n IS DISTINCT FROM r.n" \
    " OR w.nobs IS DISTINCT FROM r.nobs OR w.cost IS DISTINCT FROM r.cost"
#define SQL_MODELS                                                                                       \
    "(SELECT tseq, coalesce('=' || nullif(model, 'unknown'), '') AS model, count(*) AS n,"               \
    " sum(coalesce(tin, 0)) AS tin, sum(coalesce(tout, 0)) AS tout, sum(coalesce(ttotal, 0)) AS ttotal," \
    " sum(coalesce(cost, 0)) AS cost FROM xtrace.observation WHERE type = 'GENERATION' GROUP BY 1, 2)"
#define SQL_ROLLUP_MODEL                                                                     \
    "SELECT count(*) FROM (SELECT t.project, l.level, " LEVEL_START " AS start,"             \
    " " NAMED " AS name, t.label, t.env, o.model, sum(o.n) AS n, count(*) AS ntrace,"        \
    " sum(o.tin) AS tin, sum(o.tout) AS tout, sum(o.ttotal) AS ttotal, sum(o.cost) AS cost"  \
    " FROM xtrace.trace t JOIN " SQL_MODELS " o USING (tseq) CROSS JOIN " LEVELS             \
    " GROUP BY 1, 2, 3, 4, 5, 6, 7) w FULL JOIN xtrace.rollup_model r"                       \
    " USING (project, level, start, name, label, env, model) WHERE w.n IS DISTINCT FROM r.n" \
    " OR w.ntrace IS DISTINCT FROM r.ntrace OR w.tin IS DISTINCT FROM r.tin"                 \
    " OR w.tout IS DISTINCT FROM r.tout OR w.ttotal IS DISTINCT FROM r.ttotal"               \
    " OR w.cost IS DISTINCT FROM r.cost"
#define SQL_COUNTS                                                              \
    "SELECT count(*) FROM (SELECT t.project, s.span,"                           \
    " " SPAN_START " AS start, count(*) AS n FROM xtrace.trace t"               \
    " CROSS JOIN (VALUES (10), (3600), (86400)) AS s(span) GROUP BY 1, 2, 3) w" \
    " FULL JOIN xtrace.rollup_count r USING (project, span, start) WHERE w.n IS DISTINCT FROM r.n"
#define SQL_TEXTS                                                                   \
    "SELECT count(*) FROM " REFERENCES " LEFT JOIN LATERAL " ROW_OF_TEXT " ON true" \
    " WHERE r.pid IS NULL OR k.pid >= r.pid + r.n"
#define SQL_GONE                                                                             \
    "SELECT count(*) FROM (SELECT k.week, r.pid, r.n, r.gone, count(DISTINCT k.pid) AS used" \
    " FROM " REFERENCES " CROSS JOIN LATERAL " ROW_OF_TEXT " GROUP BY 1, 2, 3, 4) u"         \
    " WHERE u.used > u.n - u.gone"

#define SQL_ASIDE "SELECT count(*) FROM xtrace.mlog WHERE k < 0"
#define SQL_DIRS                                                                     \
    "SELECT count(*) FROM xtrace.mdir d WHERE NOT EXISTS (SELECT FROM xtrace.mgen g" \
    " WHERE g.gen = d.gen) OR NOT EXISTS (SELECT FROM xtrace.mname m WHERE m.id = d.name)"
#define SQL_PACKS                                                                                    \
    "SELECT count(*) FROM xtrace.mgen g JOIN xtrace.mpack p USING (week, gen) WHERE p.t1 >= g.swept" \
    " AND NOT EXISTS (SELECT FROM xtrace.mdir d WHERE d.gen = p.gen AND d.first <= p.part"           \
    " AND d.first + d.parts > p.part)"
#define SQL_POINTS                                                                                       \
    "SELECT count(*) FROM xtrace.mgen g WHERE cut <= t0 AND (n <> (SELECT coalesce(sum(d.n), 0)"         \
    " FROM xtrace.mdir d WHERE d.gen = g.gen) OR n <> (SELECT coalesce(sum(p.n), 0) FROM xtrace.mpack p" \
    " WHERE p.week = g.week AND p.gen = g.gen))"
#define SQL_FILTERS \
    "SELECT count(*) FROM xtrace.mgen g WHERE frows <> (SELECT count(*) FROM xtrace.mfilter f WHERE f.gen = g.gen)"
#define SQL_STREAMS                                                                               \
    "SELECT count(*) FROM xtrace.mlog l WHERE k > 0 AND NOT EXISTS (SELECT FROM xtrace.mstream s" \
    " WHERE s.stream = l.stream AND s.sealed < l.k >> 32)"

static const struct {
    const char *what, *sql;
} checks[] = {
    { "traces whose sums are not those of their observations", SQL_SUMS },
    { "traces whose timestamp does not follow from its source", SQL_TIMES },
    { "observations of another project or week than their trace", SQL_PLACES },
    { "traces in another week than they were made", SQL_WEEKS },
    { "tags without their key", SQL_TAGS },
    { "traces with more or fewer keys than tags", SQL_KEYS },
    { "rollups of traces", SQL_ROLLUP_TRACE },
    { "rollups of models", SQL_ROLLUP_MODEL },
    { "counts of traces", SQL_COUNTS },
    { "texts that are missing", SQL_TEXTS },
    { "rows of texts that count more as gone than are", SQL_GONE },
    { "rows of the log of samples that were damaged and put aside", SQL_ASIDE },
    { "rows of the log of samples that nobody reads", SQL_STREAMS },
    { "directories of samples without a generation or a name", SQL_DIRS },
    { "packs of samples that are in no directory", SQL_PACKS },
    { "generations of samples that count other points than are there", SQL_POINTS },
    { "generations of samples that lack some of their filter", SQL_FILTERS },
};

enum xt_code pg_verify(struct pg_conn *c, struct buf *report, size_t *found, struct xt_err *err) {
    enum xt_code code = XT_OK;
    for (size_t i = 0; i < sizeof checks / sizeof *checks && code == XT_OK; i++) {
        PGresult *r = NULL;
        code = pg_query(c, checks[i].sql, NULL, &r, err);
        int64_t n = code == XT_OK ? pg_i64(r, 0, 0) : 0;
        if (n != 0) {
            buf_printf(report, "%s: %lld\n", checks[i].what, (long long)n);
            ++*found;
        }
        PQclear(r);
    }
    return code;
}
