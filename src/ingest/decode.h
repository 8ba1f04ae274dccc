/* decode.h -- request bodies -> batches. Run on HTTP threads; no I/O. The body has JSON_PADDING readable bytes after its
 * end and is owned by the batch (its strings point into it). `scratch` lives for the call only. */
#pragma once
#include "base/arena.h"
#include "base/err.h"
#include "model/event.h"
#include "model/otlp_map.h"

/* POST /v1/l/batch: {"trace":..., "observations":[...]}. XT_EINVAL (syntax), XT_ESCHEMA (shape; names the path). */
enum xt_code decode_native_batch(struct arena *scratch, struct str body, struct batch *b, struct xt_err *err);
/* The bare trace or observation as body. */
enum xt_code decode_native_trace(struct arena *scratch, struct str body, struct batch *b, struct xt_err *err);
enum xt_code decode_native_observation(struct arena *scratch, struct str body, struct batch *b, struct xt_err *err);
/* POST /v1/metrics/batch. */
enum xt_code decode_metrics_batch(struct arena *scratch, struct str body, struct batch *b, struct xt_err *err);
/* ExportTraceServiceRequest. XT_EINVAL when the message cannot be decoded. */
enum xt_code decode_otlp_traces_pb(struct arena *scratch, struct str body, struct batch *b,
                                   struct otlp_rejects *rejects, struct xt_err *err);
/* need_resource_spans: a request without the member is XT_EINVAL, else it is an empty one (OTLP). */
enum xt_code decode_otlp_traces_json(struct arena *scratch, struct str body, struct batch *b, bool need_resource_spans,
                                     struct otlp_rejects *rejects, struct xt_err *err);
