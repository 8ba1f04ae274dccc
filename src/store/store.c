/* store.c -- which engine serves a URL. Everything else is dispatched through store_ops by the callers themselves. */
#include "store/store.h"

#include <string.h>

static const struct store_ops *const engines[] = { &store_sqlite_ops, &store_postgres_ops };

/* The engine of a URL's scheme. NULL: err filled. URLs may hold passwords: the message shows the scheme alone. */
static const struct store_ops *engine_find(const char *url, struct xt_err *err) {
    const char *colon = url ? strchr(url, ':') : NULL;
    if (!colon) {
        xt_fail(err, XT_EINVAL, "database URL: no scheme; use sqlite:PATH or postgresql://...");
        return NULL;
    }
    struct str scheme = { url, (size_t)(colon - url) };
    for (size_t i = 0; i < sizeof engines / sizeof *engines; i++)
        if (str_eq_c(scheme, engines[i]->scheme) || (engines[i]->alias && str_eq_c(scheme, engines[i]->alias)))
            return engines[i];
    xt_fail(err, XT_EINVAL,
            "database URL: this program does not know the scheme \"%.*s\"; use sqlite:PATH or postgresql://...",
            (int)(scheme.n > 40 ? 40 : scheme.n), scheme.p);
    return NULL;
}

enum xt_code store_open(struct store *s, const struct store_conf *conf, struct xt_err *err) {
    *s = (struct store){ .ops = engine_find(conf->url, err) };
    if (!s->ops)
        return XT_EINVAL;
    enum xt_code code = s->ops->open(s, conf, err);
    if (code != XT_OK)
        store_close(s);
    return code;
}

bool store_is_remote(const char *url) {
    const struct store_ops *ops = engine_find(url, NULL);
    return ops && ops->remote;
}

void store_close(struct store *s) {
    if (s->ops)
        s->ops->close(s);
    *s = (struct store){ 0 };
}

enum xt_code store_restore(const char *url, const char *file, struct xt_err *err) {
    const struct store_ops *ops = engine_find(url, err);
    return ops ? ops->restore(url, file, err) : XT_EINVAL;
}
