/* sha.c -- see sha.h. */
#include "base/sha.h"

#include <gnutls/crypto.h>
#include <string.h>

bool sha256(struct str s, uint8_t out[SHA256_BYTES]) {
    if (gnutls_hash_fast(GNUTLS_DIG_SHA256, s.p ? s.p : "", s.n, out) == 0)
        return true;
    memset(out, 0, SHA256_BYTES);
    return false;
}
