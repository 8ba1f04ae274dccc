/* json_lex.h -- the text of single tokens: what simdjson's token list leaves to be checked. For json_read.cc alone.
 * Each function returns NULL when all is well, else why not. */
#pragma once
#include <stdbool.h>

#include "base/str.h"

#ifdef __cplusplus
extern "C" {
#endif

/* A token that begins with '-' or a digit: JSON's grammar, and within double. Linear in the digits. */
const char *json_number_fault(struct str number);
/* The inside of a string (valid UTF-8, no quotes): the verdict of json_unescape without its output. *ret_at is the place
 * of the bad escape. */
const char *json_escape_fault(struct str inside, bool lenient, const char **ret_at);
/* Where a text that simdjson's first stage refused is not UTF-8, has a control character in a string, or a string
 * without an end. NULL also when it has none of these. */
const char *json_text_fault(struct str text, const char **ret_at);

#ifdef __cplusplus
}
#endif
