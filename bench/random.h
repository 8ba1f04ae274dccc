/* random.h -- what the programs here share: randomness, hex, memory that is there, the shape of the data. */
#pragma once
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#define OBSERVATIONS_EACH 10 /* of a trace */
#define USERS 1000

/* Ends the program without memory: these are tools. */
static inline void *need(void *p) {
    if (p)
        return p;
    fputs("load: out of memory\n", stderr);
    exit(1);
}

/* ---- randomness: xoshiro256**, one stream a program ---- */

static uint64_t rng_state[4];

static inline uint64_t rotl(uint64_t x, int k) { return (x << k) | (x >> (64 - k)); }

static inline uint64_t rng(void) {
    uint64_t *s = rng_state, got = rotl(s[1] * 5, 7) * 9, t = s[1] << 17;
    s[2] ^= s[0];
    s[3] ^= s[1];
    s[1] ^= s[2];
    s[0] ^= s[3];
    s[2] ^= t;
    s[3] = rotl(s[3], 45);
    return got;
}

static inline void rng_seed(uint64_t seed) {
    for (int i = 0; i < 4; i++) { /* splitmix64 */
        uint64_t z = (seed += UINT64_C(0x9e3779b97f4a7c15));
        z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
        z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
        rng_state[i] = z ^ (z >> 31);
    }
}

/* 32 digits. */
static inline void put_hex(char *to, uint64_t hi, uint64_t lo) {
    static const char digits[] = "0123456789abcdef";
    for (int i = 0; i < 16; i++) {
        to[i] = digits[hi >> (60 - 4 * i) & 15];
        to[16 + i] = digits[lo >> (60 - 4 * i) & 15];
    }
}
