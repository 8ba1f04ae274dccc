/* ratelimit.c -- see ratelimit.h. `mu` guards everything; the work under it is a scan of at most RATE_KEYS_MAX short
 * entries, in practice of two. */
#include "api/ratelimit.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "api/app.h"
#include "base/clock.h"
#include "base/map.h"

struct bucket {
    uint64_t hash;  /* keyed hash of the credential: the credential itself is not kept */
    char shown[64]; /* masked, for the stats */
    int64_t tat;    /* GCRA's theoretical arrival time, monotonic ns */
    uint64_t rejected;
    int64_t used;
};
struct rate_limiter {
    uint64_t qps, burst;
    pthread_mutex_t mu;
    uint64_t allowed, rejected;
    struct bucket buckets[RATE_KEYS_MAX];
    size_t n;
};

struct rate_limiter *rate_limiter_new(uint64_t qps, uint64_t burst) {
    struct rate_limiter *r = calloc(1, sizeof *r);
    if (!r)
        return NULL;
    r->qps = qps;
    r->burst = burst;
    pthread_mutex_init(&r->mu, NULL);
    return r;
}

void rate_limiter_free(struct rate_limiter *r) {
    if (!r)
        return;
    pthread_mutex_destroy(&r->mu);
    free(r);
}

/* "bearer:abcd***", "basic:pk-l***": at most 4 characters, and never more than half of the credential. */
static void mask(struct str key, char out[64]) {
    size_t colon = str_find(key, ':');
    struct str scheme = str_sub(key, 0, colon), secret = str_sub(key, colon + 1, key.n);
    size_t show = secret.n / 2 < 4 ? secret.n / 2 : 4;
    struct buf b;
    buf_init(&b, 60);
    buf_add_str(&b, str_sub(scheme, 0, 20));
    buf_add_char(&b, ':');
    buf_add_str(&b, str_sub(secret, 0, show));
    buf_add_c(&b, "***");
    struct str s = buf_str(&b);
    memcpy(out, s.p, s.n);
    out[s.n] = 0;
    buf_done(&b);
}

static struct bucket *find_bucket(struct rate_limiter *r, struct str key) {
    uint64_t h = map_hash(key);
    struct bucket *idlest = NULL;
    for (size_t i = 0; i < r->n; i++) {
        if (r->buckets[i].hash == h)
            return &r->buckets[i];
        if (!idlest || r->buckets[i].used < idlest->used)
            idlest = &r->buckets[i];
    }
    struct bucket *b = r->n < RATE_KEYS_MAX ? &r->buckets[r->n++] : idlest;
    memset(b, 0, sizeof *b);
    b->hash = h;
    mask(key, b->shown);
    return b;
}

bool rate_admit(void *app, const struct http_auth *auth, unsigned *ret_wait_s) {
    struct rate_limiter *r = ((struct app *)app)->limiter;
    int64_t now = clock_mono_ns();
    int64_t step = NS_PER_SEC / (int64_t)r->qps; /* qps up to 2^32-1: may be 0, then only counting is left */
    double span = (double)NS_PER_SEC * (double)r->burst / (double)r->qps;
    int64_t window = span > 9e18 ? INT64_MAX / 4 : (int64_t)span;
    pthread_mutex_lock(&r->mu);
    struct bucket *b = find_bucket(r, auth->rate_key);
    b->used = now;
    int64_t tat = b->tat > now ? b->tat : now;
    int64_t wait = tat + step - window - now;
    bool ok = wait <= 0;
    if (ok) {
        b->tat = tat + step;
        r->allowed++;
    } else {
        b->rejected++;
        r->rejected++;
    }
    pthread_mutex_unlock(&r->mu);
    if (!ok)
        *ret_wait_s = (unsigned)((wait + NS_PER_SEC - 1) / NS_PER_SEC);
    return ok;
}

/* Contract 3.7: keys sorted, "data":null, the moment of the reset in style (b). */
void rate_refused(void *app, struct http_req *req, unsigned wait_s) {
    (void)app;
    char when[TIME_TEXT_MAX];
    struct json_writer w;
    time_format_offset(time_add(clock_now_ns(), (int64_t)wait_s * NS_PER_SEC), when);
    jw_init(&w, http_reply_buf(req));
    jw_obj(&w);
    jw_kv_cstr(&w, "code", "TOO_MANY_REQUESTS");
    jw_kv_null(&w, "data");
    jw_kv_cstr(&w, "message", "Too Many Requests");
    jw_key(&w, "meta");
    jw_obj(&w);
    jw_key(&w, "rate_limit");
    jw_obj(&w);
    jw_kv_i64(&w, "remaining", 0);
    jw_kv_cstr(&w, "reset_at", when);
    jw_end(&w);
    jw_end(&w);
    jw_end(&w);
    http_reply_status(req, 429);
    struct str retry = arena_printf(http_arena(req), "%u", wait_s);
    http_reply_header(req, "Retry-After", str_has(retry) ? retry : STR_LIT("1"));
}

static int by_rejected(const void *a, const void *b) {
    uint64_t x = (*(const struct bucket *const *)a)->rejected, y = (*(const struct bucket *const *)b)->rejected;
    return x < y ? 1 : x > y ? -1 : 0;
}

void rate_write_stats(struct rate_limiter *r, struct json_writer *w) {
    const struct bucket *top[RATE_KEYS_MAX];
    pthread_mutex_lock(&r->mu);
    size_t n = 0;
    for (size_t i = 0; i < r->n; i++)
        if (r->buckets[i].rejected)
            top[n++] = &r->buckets[i];
    qsort(top, n, sizeof top[0], by_rejected);
    uint64_t total = r->allowed + r->rejected;
    jw_obj(w);
    jw_kv_i64(w, "rate_limit_burst", (int64_t)r->burst);
    jw_kv_i64(w, "rate_limit_qps", (int64_t)r->qps);
    jw_kv_f64(w, "rejection_rate", total ? (double)r->rejected / (double)total : 0.0);
    jw_key(w, "top_rejected_tokens");
    jw_arr(w);
    for (size_t i = 0; i < n && i < 20; i++) {
        jw_obj(w);
        jw_kv_i64(w, "count", (int64_t)top[i]->rejected);
        jw_kv_cstr(w, "token", top[i]->shown);
        jw_end(w);
    }
    jw_end(w);
    jw_kv_i64(w, "total_allowed", (int64_t)r->allowed);
    jw_kv_i64(w, "total_rejected", (int64_t)r->rejected);
    jw_end(w);
    pthread_mutex_unlock(&r->mu);
}

void rate_counts(struct rate_limiter *r, uint64_t *ret_allowed, uint64_t *ret_rejected) {
    pthread_mutex_lock(&r->mu);
    *ret_allowed = r->allowed;
    *ret_rejected = r->rejected;
    pthread_mutex_unlock(&r->mu);
}
