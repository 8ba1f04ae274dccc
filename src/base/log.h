/* log.h -- the only writer to stderr: one line an event, time, level, then key=value text. Thread-safe.
 * Only http/, ingest/, jobs/ and main log; everything else reports through struct xt_err. Never log secrets. */
#pragma once
#include <stdbool.h>

#include "base/str.h"

enum log_level { LOG_ERROR, LOG_WARN, LOG_INFO, LOG_DEBUG };
void log_set_level(enum log_level level);
bool log_level_parse(const char *word, enum log_level *ret);
/* Text from outside for a line, as key="%s": quotes and backslashes are escaped, so that it cannot end its value and begin
 * fields of its own; what does not fit is cut between characters. Returns out. */
#define LOG_TEXT_MAX 512
const char *log_text(char out[LOG_TEXT_MAX], struct str s);
/* `fmt` gives the text after the level, e.g. "event=start addr=%s". Control bytes of the text are escaped. */
void log_line(enum log_level level, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
#define log_error(...) log_line(LOG_ERROR, __VA_ARGS__)
#define log_warn(...) log_line(LOG_WARN, __VA_ARGS__)
#define log_info(...) log_line(LOG_INFO, __VA_ARGS__)
#define log_debug(...) log_line(LOG_DEBUG, __VA_ARGS__)
