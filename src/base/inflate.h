/* inflate.h -- bounded decompression and compression of whole bodies. At most `max` bytes come out. */
#pragma once
#include "base/buf.h"
#include "base/err.h"

enum coding {
    CODING_IDENTITY,
    CODING_GZIP,
    CODING_DEFLATE /* zlib format, raw accepted */,
    CODING_ZSTD,
    CODING_UNKNOWN
};

/* A Content-Encoding or one member of Accept-Encoding: "gzip", "x-gzip", "deflate", "zstd", "identity", "". */
enum coding coding_parse(struct str name);
const char *coding_name(enum coding c);
/* Inflates `in` into *out (cleared first; out->max is the cap). XT_ETOOBIG past the cap, XT_EINVAL for a damaged or
 * truncated stream or trailing garbage; several gzip members in a row are one body. */
enum xt_code inflate_body(enum coding c, struct str in, struct buf *out, struct xt_err *err);
/* Compresses for a response; level is the codec's fast one. XT_ENOMEM when it cannot. */
enum xt_code deflate_body(enum coding c, struct str in, struct buf *out, struct xt_err *err);
