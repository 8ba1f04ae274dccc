/* json_tree.c -- questions to a parsed tree. */
#include "json/json_read.h"

#include <string.h>

const struct json *json_get(const struct json *o, const char *key) {
    if (!o || o->type != JSON_OBJECT) {
        return NULL;
    }
    size_t n = strlen(key);
    const struct json *found = NULL;
    for (const struct json *m = o->child; m; m = m->next) {
        if (m->key.n == n && memcmp(m->key.p, key, n) == 0) {
            found = m;
        }
    }
    return found;
}

/* Without fraction and exponent? The text is a number. */
static bool is_integer(struct str number) {
    for (size_t i = 0; i < number.n; i++) {
        char c = number.p[i];
        if (c == '.' || c == 'e' || c == 'E') {
            return false;
        }
    }
    return true;
}

bool json_i64(const struct json *v, int64_t *ret) {
    return v && v->type == JSON_NUMBER && is_integer(v->raw) && str_to_i64(v->raw, ret);
}

bool json_f64(const struct json *v, double *ret) { return v && v->type == JSON_NUMBER && str_to_f64(v->raw, ret); }

const char *json_type_name(const struct json *v) {
    static const char *const names[] = {
        [JSON_NULL] = "null",     [JSON_BOOL] = "boolean", [JSON_NUMBER] = "number",
        [JSON_STRING] = "string", [JSON_ARRAY] = "array",  [JSON_OBJECT] = "object",
    };
    return v->type == JSON_NUMBER && is_integer(v->raw) ? "integer" : names[v->type];
}
