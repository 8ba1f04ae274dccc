/* reply.c -- status, headers and body of an answer; the one place that turns a struct xt_err into bytes. */
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "http/internal.h"
#include "json/json_write.h"

#define BIG_REPLY ((uint64_t)64 << 10) /* bytes; larger ones count against the reply budget */
#define STALLED_NS (5 * NS_PER_SEC)    /* who reads an answer this long may be cut off when they fill the budget */

void http_reply_status(struct http_req *req, unsigned status) { req->status = status; }
struct buf *http_reply_buf(struct http_req *req) {
    return &req->reply;
}
void http_reply_type(struct http_req *req, const char *content_type) { req->type = content_type; }

void http_reply_header(struct http_req *req, const char *name, struct str value) {
    struct reply_header *h = arena_new(&req->arena, struct reply_header, 1);
    struct str copy = arena_str(&req->arena, value);
    if (!h || !str_has(copy)) {
        return; /* out of memory: the answer goes without it */
    }
    *h = (struct reply_header){ .name = name, .value = copy };
    *req->reply_tail = h;
    req->reply_tail = &h->next;
}

void http_reply_json(struct http_req *req, unsigned status, struct str json) {
    buf_clear(&req->reply);
    req->type = NULL;
    req->status = status;
    buf_add_str(&req->reply, json);
}

void http_reply_empty(struct http_req *req, unsigned status) {
    buf_clear(&req->reply);
    req->type = NULL;
    req->status = status;
}

/* ---- errors ---- */

/* Back-pressure is 429 to native callers and 503 to OpenTelemetry's exporters, which drop on 429. */
static unsigned status_of(enum xt_code code, enum http_error_style style) {
    return code == XT_EBUSY && style != ERR_JSON ? 503 : xt_code_status(code);
}

/* google.rpc.Code */
static int64_t rpc_code(enum xt_code code) {
    switch (code) {
    case XT_OK: return 0;
    case XT_EINVAL:
    case XT_EMEDIA:
    case XT_ESCHEMA:
    case XT_EREFUSED: return 3; /* INVALID_ARGUMENT */
    case XT_ETIMEOUT: return 4; /* DEADLINE_EXCEEDED */
    case XT_ENOTFOUND: return 5;
    case XT_EFORBIDDEN: return 7; /* PERMISSION_DENIED */
    case XT_ETOOBIG:
    case XT_ERATE: return 8;      /* RESOURCE_EXHAUSTED */
    case XT_ECONFLICT: return 10; /* ABORTED */
    case XT_EMETHOD: return 12;   /* UNIMPLEMENTED */
    case XT_EBUSY:
    case XT_EUNAVAILABLE:
    case XT_ENOMEM: return 14; /* UNAVAILABLE */
    case XT_EAUTH: return 16;  /* UNAUTHENTICATED */
    case XT_ESTORE:
    case XT_CODE_MAX: break;
    }
    return 13; /* INTERNAL */
}

static void add_varint(struct buf *b, uint64_t v) {
    for (; v >= 0x80; v >>= 7) {
        buf_add_char(b, (char)(v | 0x80));
    }
    buf_add_char(b, (char)v);
}

/* google.rpc.Status: int32 code = 1, string message = 2. */
static void write_status_pb(struct buf *b, int64_t code, struct str text) {
    buf_add_char(b, 0x08);
    add_varint(b, (uint64_t)code);
    buf_add_char(b, 0x12);
    add_varint(b, text.n);
    buf_add_str(b, text);
}

static void write_json(struct http_req *req, const struct xt_err *err, struct str text, enum http_error_style style) {
    struct json_writer w;
    jw_init(&w, &req->reply);
    jw_obj(&w);
    if (style == ERR_OTLP) {
        jw_kv_i64(&w, "code", rpc_code(err->code));
        jw_kv_str(&w, "message", text);
    } else {
        bool busy = req->status == 503 && err->code == XT_EBUSY;
        jw_kv_str(&w, "message", text);
        jw_kv_cstr(&w, "code", xt_code_word(busy ? XT_EUNAVAILABLE : err->code));
    }
    jw_end(&w);
}

static bool asks_for_protobuf(const struct http_req *req) {
    struct str t = req->content_type;
    return str_eq_c(t, "application/x-protobuf") || str_eq_c(t, "application/protobuf") ||
           str_eq_c(t, "application/octet-stream");
}

void http_reply_error(struct http_req *req, const struct xt_err *err) {
    enum http_error_style style = req->route ? req->route->style : ERR_JSON;
    struct str text = str_c(err->msg[0] ? err->msg : xt_code_default(err->code));
    http_reply_empty(req, status_of(err->code, style));
    req->reply_headers = NULL; /* what was meant for another answer */
    req->reply_tail = &req->reply_headers;
    if (style == ERR_OTLP && asks_for_protobuf(req)) {
        req->type = "application/x-protobuf";
        write_status_pb(&req->reply, rpc_code(err->code), text);
    } else {
        write_json(req, err, text, style);
    }
    snprintf(req->err_msg, sizeof(req->err_msg), "%s", err->msg);
    if (err->code == XT_EBUSY || err->code == XT_EUNAVAILABLE || err->code == XT_ENOMEM || err->code == XT_ERATE) {
        http_reply_header(req, "Retry-After", STR_LIT("1"));
    }
}

/* ---- compression ---- */

/* "0.5" -> 500; absent -> 1000; what is no number counts as a refusal. */
static unsigned parse_q(struct str params) {
    struct str rest = params, part;
    unsigned q = 1000;
    while (str_split(&rest, ';', &part)) {
        part = str_trim(part);
        if (part.n < 2 || (part.p[0] | 0x20) != 'q' || part.p[1] != '=') {
            continue;
        }
        double v = 0;
        bool ok = str_to_f64(str_trim(str_sub(part, 2, part.n)), &v) && v >= 0 && v <= 1;
        q = ok ? (unsigned)(v * 1000) : 0;
    }
    return q;
}

enum coding reply_accepts(struct str accept) {
    unsigned gzip = 0, zstd = 0, any = 0;
    bool gzip_named = false, zstd_named = false;
    struct str part;
    if (!str_has(accept)) {
        return CODING_IDENTITY;
    }
    while (str_split(&accept, ',', &part)) {
        size_t semi = str_find(part, ';');
        struct str name = str_trim(str_sub(part, 0, semi));
        unsigned q = semi < part.n ? parse_q(str_sub(part, semi + 1, part.n)) : 1000;
        if (name.n == 0) {
            continue;
        }
        enum coding c = coding_parse(name);
        if (c == CODING_GZIP) {
            gzip = q;
            gzip_named = true;
        } else if (c == CODING_ZSTD) {
            zstd = q;
            zstd_named = true;
        } else if (str_eq_c(name, "*")) {
            any = q;
        }
    }
    gzip = gzip_named ? gzip : any;
    zstd = zstd_named ? zstd : any;
    return zstd == 0 && gzip == 0 ? CODING_IDENTITY : zstd >= gzip ? CODING_ZSTD : CODING_GZIP;
}

static bool has_header(const struct http_req *req, const char *name) {
    for (const struct reply_header *h = req->reply_headers; h; h = h->next) {
        if (str_eq_nocase(str_c(h->name), str_c(name))) {
            return true;
        }
    }
    return false;
}

static void compress(struct http_req *req) {
    if (req->reply.n < COMPRESS_MIN || has_header(req, "Content-Encoding")) {
        return;
    }
    enum coding c = reply_accepts(http_header(req, "Accept-Encoding"));
    http_reply_header(req, "Vary", STR_LIT("Accept-Encoding"));
    if (c == CODING_IDENTITY) {
        return;
    }
    struct buf out;
    buf_init(&out, req->reply.n); /* what does not get smaller is sent as it is */
    if (deflate_body(c, buf_str(&req->reply), &out, NULL) == XT_OK && out.n < req->reply.n) {
        buf_done(&req->reply);
        req->reply = out;
        http_reply_header(req, "Content-Encoding", str_c(coding_name(c)));
    } else {
        buf_done(&out);
    }
}

/* Large answers that wait to be read count against a budget. Who has been reading for long makes room for others. */
static void charge(struct http_req *req) {
    struct http_core *core = req->core;
    uint64_t n = req->reply.n;
    if (n <= BIG_REPLY) {
        return;
    }
    bool fits = budget_take(&core->replies, n, 0);
    if (core->sweep && (!fits || budget_tight(&core->replies))) {
        sweep_evict_senders(core->sweep, clock_mono_ns() - STALLED_NS);
    }
    if (fits) {
        req->reply_held = n;
        return;
    }
    struct xt_err err = { 0 };
    buf_done(&req->reply);
    xt_fail(&err, XT_EUNAVAILABLE, "too many large answers at once: ask again");
    http_reply_error(req, &err);
}

void reply_finish(struct http_req *req) {
    if (req->reply.failed) {
        struct xt_err err = { 0 };
        xt_fail(&err, XT_ENOMEM, "the answer does not fit in memory");
        http_reply_error(req, &err);
    }
    compress(req);
    charge(req);
    checks_cors(req);
}
