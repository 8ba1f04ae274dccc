/* client.c -- clients: options, credentials, handles. */
#include "client.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/codec.h"

#define DEFAULT_URL "http://127.0.0.1:8742"
#define DEFAULT_ANSWER_MAX ((size_t)256 << 20)
#define TEXT_MAX 8192 /* bytes of an address or a credential */

void xtrace_options_init_sized(xtrace_options *options, size_t size) {
    const xtrace_options o = { .connect_timeout_ms = 5000,
                               .timeout_ms = 30000,
                               .max_attempts = 4,
                               .retry_min_ms = 200,
                               .retry_max_ms = 5000,
                               .max_answer_bytes = DEFAULT_ANSWER_MAX,
                               .log_level = XTRACE_LOG_WARN };

    init_sized(options, size, &o, sizeof o);
}

void xtrace_call_init_sized(xtrace_call *call, size_t size) {
    const xtrace_call none = { 0 };

    init_sized(call, size, &none, sizeof none);
}

static void curl_start(void) { (void)curl_global_init(CURL_GLOBAL_DEFAULT); }

/* Visible ASCII and blanks only: it goes into a header line. */
static bool header_safe(const char *s) {
    for (; *s; s++)
        if ((unsigned char)*s < 0x20 || (unsigned char)*s > 0x7e)
            return false;
    return true;
}

static int check_options(const xtrace_options *o, xtrace_error *error) {
    const struct {
        const char *name, *text;
    } texts[] = { { "base_url", o->base_url },     { "token", o->token },           { "public_key", o->public_key },
                  { "secret_key", o->secret_key }, { "user_agent", o->user_agent }, { "proxy", o->proxy },
                  { "ca_file", o->ca_file } };
    const struct {
        const char *name;
        int value, min;
    } numbers[] = { { "connect_timeout_ms", o->connect_timeout_ms, 1 },
                    { "timeout_ms", o->timeout_ms, 1 },
                    { "max_attempts", o->max_attempts, 1 },
                    { "retry_min_ms", o->retry_min_ms, 1 },
                    { "retry_max_ms", o->retry_max_ms, o->retry_min_ms } };

    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        if (!texts[i].text)
            continue;
        if (strnlen(texts[i].text, TEXT_MAX) == TEXT_MAX)
            return error_argument(error, texts[i].name, "longer than %d bytes", TEXT_MAX - 1);
        if (i != 6 && !header_safe(texts[i].text))
            return error_argument(error, texts[i].name, "holds a character that is not visible ASCII");
    }
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++)
        if (numbers[i].value < numbers[i].min)
            return error_argument(error, numbers[i].name, "%d is less than %d", numbers[i].value, numbers[i].min);
    if (strncmp(o->base_url, "http://", 7) != 0 && strncmp(o->base_url, "https://", 8) != 0)
        return error_argument(error, "base_url", "does not begin with http:// or https://");
    if (strpbrk(o->base_url, "?# "))
        return error_argument(error, "base_url", "holds a query, a fragment or a blank");
    if (o->max_answer_bytes == 0)
        return error_argument(error, "max_answer_bytes", "0");
    if (!o->token && !o->public_key != !o->secret_key)
        return error_argument(error, o->public_key ? "secret_key" : "public_key", "missing");
    if (o->public_key && strchr(o->public_key, ':'))
        return error_argument(error, "public_key", "holds a colon");
    return XTRACE_OK;
}

/* "Bearer TOKEN" or "Basic BASE64", "" without a credential. NULL: no memory. */
static char *authorization(const xtrace_options *o) {
    struct buf line, pair;
    size_t n;

    buf_init(&line, TEXT_MAX * 4);
    buf_add_c(&line, "Authorization: ");
    if (o->token) {
        buf_add_c(&line, "Bearer ");
        buf_add_c(&line, o->token);
    } else if (o->public_key && o->secret_key) {
        buf_init(&pair, TEXT_MAX * 2);
        buf_add_c(&pair, o->public_key);
        buf_add_char(&pair, ':');
        buf_add_c(&pair, o->secret_key);
        buf_add_c(&line, "Basic ");
        if (!pair.failed && buf_reserve(&line, 4 * ((pair.n + 2) / 3))) {
            line.n += base64_encode((const uint8_t *)pair.p, pair.n, line.p + line.n);
            line.p[line.n] = '\0'; /* buf_reserve left room for it */
        }
        line.failed |= pair.failed;
        buf_done(&pair);
    } else {
        buf_clear(&line);
    }
    if (line.failed) {
        buf_done(&line);
        return NULL;
    }
    if (line.n == 0)
        buf_add_char(&line, '\0');
    return buf_take(&line, &n);
}

static const char *from_environment(const char *given, const char *name) {
    const char *v = given ? given : getenv(name);
    return v && (*v || given) ? v : NULL;
}

/* strdup that leaves NULL alone; clears *ok when there is no memory. */
static char *copy(const char *text, bool *ok) {
    char *s = text ? strdup(text) : NULL;
    *ok = *ok && (s || !text);
    return s;
}

xtrace_client *xtrace_client_new(const xtrace_options *options, xtrace_error *error) {
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    xtrace_options o;
    struct xtrace_client *c;
    char agent[256];
    bool ok = true;

    error_clear(error);
    xtrace_options_init(&o);
    if (options) {
        if (options->size < sizeof(size_t) || options->size > 65536) {
            error_argument(error, "options.size", "call xtrace_options_init first");
            return NULL;
        }
        memcpy(&o, options, options->size < sizeof o ? options->size : sizeof o);
    }
    o.base_url = from_environment(o.base_url, "XTRACE_BASE_URL");
    if (!o.base_url)
        o.base_url = DEFAULT_URL;
    if (!o.token && !o.public_key) {
        o.token = from_environment(NULL, "API_BEARER_TOKEN");
        o.public_key = from_environment(NULL, "XTRACE_PUBLIC_KEY");
        if (!o.secret_key)
            o.secret_key = from_environment(NULL, "XTRACE_SECRET_KEY");
    }
    if (check_options(&o, error) != XTRACE_OK)
        return NULL;
    pthread_once(&once, curl_start);

    c = calloc(1, sizeof *c);
    if (!c) {
        error_set(error, XTRACE_ENOMEM, "no memory");
        return NULL;
    }
    pthread_mutex_init(&c->mu, NULL);
    (void)snprintf(agent, sizeof agent, "%s%slibxtrace/%s", o.user_agent ? o.user_agent : "", o.user_agent ? " " : "",
                   xtrace_version());
    c->logger = (struct logger){ o.log, o.log_arg, o.log_level };
    c->guard = fork_guard_new();
    c->authorization = authorization(&o);
    c->base_url = copy(o.base_url, &ok);
    c->user_agent = copy(agent, &ok);
    c->proxy = copy(o.proxy, &ok);
    c->ca_file = copy(o.ca_file, &ok);
    c->o = o;
    c->o.base_url = c->o.token = c->o.public_key = c->o.secret_key = NULL;
    c->o.user_agent = c->o.proxy = c->o.ca_file = NULL;
    if (!ok || !c->guard || !c->authorization) {
        xtrace_client_free(c);
        error_set(error, XTRACE_ENOMEM, "no memory");
        return NULL;
    }
    for (size_t n = strlen(c->base_url); n && c->base_url[n - 1] == '/'; n--)
        c->base_url[n - 1] = '\0';
    return c;
}

void xtrace_client_free(xtrace_client *c) {
    if (!c)
        return;
    if (c->guard && fork_guard_epoch(c->guard) != 0) /* a child leaves its parent's connections alone */
        for (size_t i = 0; i < c->idle_count; i++)
            client_close(c->idle[i]);
    fork_guard_free(c->guard);
    pthread_mutex_destroy(&c->mu);
    if (c->authorization) {
        explicit_bzero(c->authorization, strlen(c->authorization));
        free(c->authorization);
    }
    free(c->base_url);
    free(c->user_agent);
    free(c->proxy);
    free(c->ca_file);
    free(c);
}
