/* ident.h -- texts that are 16 bytes in disguise: 32 hex digits, or a UUID with hyphens, both in lower case. */
#pragma once
#include <stdint.h>

#include "base/str.h"

enum { IDENT_TEXT, IDENT_HEX, IDENT_UUID }; /* part of the file format */
#define IDENT_BYTES 16
#define IDENT_CHARS 36 /* room for the text of any of them */

/* What it is, and unless IDENT_TEXT its bytes: ident_text of those gives the very same text. */
unsigned ident_parse(struct str s, uint8_t ret[IDENT_BYTES]);
/* The text of an IDENT_HEX or IDENT_UUID; returns its length. No NUL. */
size_t ident_text(unsigned form, const uint8_t id[IDENT_BYTES], char room[IDENT_CHARS]);
