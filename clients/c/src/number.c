/* number.c -- json_format_f64 (json/json_write.h) without C++: the server has it from the C++ library. */
#include <stdio.h>
#include <stdlib.h>

#include "json/json_write.h"

size_t json_format_f64(double v, char out[32]) {
    size_t n = 0;
    bool whole = true;

    for (int digits = 15; digits <= 17; digits++) { /* 17 always read back equal */
        (void)snprintf(out, 32, "%.*g", digits, v);
        if (strtod(out, NULL) == v)
            break;
    }
    /* The host's locale may have another decimal point, of any number of bytes. */
    for (const char *p = out; *p; p++) {
        const bool plain = (*p >= '0' && *p <= '9') || *p == '-' || *p == '+' || *p == 'e';
        if (plain)
            out[n++] = *p;
        else if (n == 0 || out[n - 1] != '.')
            out[n++] = '.';
        whole = whole && plain && *p != 'e';
    }
    if (whole) {
        out[n++] = '.';
        out[n++] = '0';
    }
    return n;
}
