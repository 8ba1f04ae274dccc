/* histogram.c -- see histogram.h. */
#include "histogram.h"

void histogram_add(struct histogram *h, int64_t ns) {
    uint64_t v = ns > 0 ? (uint64_t)ns : 0;
    unsigned shift = v < 64 ? 0 : 58U - (unsigned)__builtin_clzll(v); /* v >> shift is in 32..63 and 6 bits */
    unsigned bucket = shift * 64 + (unsigned)(v >> shift & 63);
    h->count[bucket < 4096 ? bucket : 4095]++;
    if (h->n++ == 0)
        h->first = ns;
    if (ns > h->max)
        h->max = ns;
}

double histogram_at(const struct histogram *h, double share) {
    uint64_t wanted = (uint64_t)(share * (double)h->n), seen = 0;
    for (unsigned b = 0; b < 4096; b++) {
        seen += h->count[b];
        if (h->count[b] && seen > wanted)
            return (double)((uint64_t)(b % 64 + 1) << (b / 64)) / 1e6;
    }
    return (double)h->max / 1e6;
}
