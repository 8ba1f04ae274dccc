/* sha.h -- SHA-256 (GnuTLS's), for hashes of secrets. */
#pragma once
#include <stdbool.h>
#include <stdint.h>

#include "base/str.h"

#define SHA256_BYTES 32
/* False only when the library fails (never seen); then out is zeroed, which is the hash of nothing: compare no secrets. */
bool sha256(struct str s, uint8_t out[SHA256_BYTES]);
