/* fuzz_native.c -- any bytes as the body of each native route: the first byte chooses which. */
#include "decoding.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n) {
    static enum xt_code (*const routes[])(struct arena * scratch, struct str body, struct batch * b,
                                          struct xt_err * err) = { decode_native_batch, decode_native_trace,
                                                                   decode_native_observation, decode_metrics_batch };
    if (n == 0) {
        return 0;
    }
    struct batch *b = fuzz_batch(data + 1, n - 1);
    struct arena scratch;
    struct xt_err err;
    arena_init(&scratch, FUZZ_ARENA);
    enum xt_code code = routes[data[0] % 4](&scratch, (struct str){ b->body, n - 1 }, b, &err);
    arena_done(&scratch);
    finish_batch(b, code);
    return 0;
}
