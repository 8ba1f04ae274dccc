/* projects.c -- GET /api/public/projects: the credential's own project (`organization` and retention are
 * what Langfuse's SDKs read). */
#include "api/api.h"

#include "api/app.h"
#include "base/clock.h"
#include "json/json_write.h"

enum http_result projects_list(struct http_req *req, struct xt_err *err) {
    const struct http_auth *auth = http_auth_of(req);
    char now[TIME_TEXT_MAX];
    struct json_writer w;
    time_format_offset(clock_now_ns(), now);
    jw_init(&w, http_reply_buf(req));
    jw_obj(&w);
    jw_key(&w, "data");
    jw_arr(&w);
    jw_obj(&w);
    jw_kv_str(&w, "id", auth->project_name);
    jw_kv_str(&w, "name", auth->project_name);
    jw_kv_cstr(&w, "createdAt", now);
    jw_kv_cstr(&w, "updatedAt", now);
    jw_key(&w, "metadata");
    jw_obj(&w);
    jw_end(&w);
    jw_key(&w, "organization");
    jw_obj(&w);
    jw_kv_cstr(&w, "id", "default");
    jw_kv_cstr(&w, "name", "default");
    jw_end(&w);
    jw_end(&w);
    jw_end(&w);
    jw_end(&w);
    if (jw_done(&w))
        return HTTP_REPLY;
    xt_fail(err, XT_ENOMEM, "out of memory");
    return HTTP_FAIL;
}
