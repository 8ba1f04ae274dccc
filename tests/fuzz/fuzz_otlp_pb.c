/* fuzz_otlp_pb.c -- any bytes as an OTLP request in protobuf: no crash, and what is stored as JSON is JSON. */
#include "decoding.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n) {
    struct batch *b = fuzz_batch(data, n);
    struct otlp_rejects rejects = { 0, "" };
    struct arena scratch;
    struct xt_err err;
    arena_init(&scratch, FUZZ_ARENA);
    enum xt_code code = decode_otlp_traces_pb(&scratch, (struct str){ b->body, n }, b, &rejects, &err);
    arena_done(&scratch);
    finish_batch(b, code);
    return 0;
}
