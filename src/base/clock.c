/* clock.c -- wall and monotonic clocks; RFC 3339 text to nanoseconds and back by the proleptic Gregorian calendar. */
#include "base/clock.h"

#include <time.h>

static int64_t now_ns(clockid_t id) {
    struct timespec ts;
    clock_gettime(id, &ts); /* cannot fail for these clocks */
    return (int64_t)ts.tv_sec * NS_PER_SEC + ts.tv_nsec;
}

int64_t clock_now_ns(void) { return now_ns(CLOCK_REALTIME); }

int64_t clock_mono_ns(void) { return now_ns(CLOCK_MONOTONIC); }

/* ---- far times ---- */

/* So many of TIME_FAR are microseconds, the rest milliseconds; these are whole ones. */
#define FAR_US INT64_C(270000000000000225)

/* How far beyond the near times, in the steps that are left there. */
static int64_t far_steps(__int128 us) {
    __int128 steps = us <= FAR_US ? us : FAR_US + (us - FAR_US) / 1000;
    return steps < TIME_FAR ? (int64_t)steps : TIME_FAR;
}
static __int128 far_us(int64_t steps) { return steps <= FAR_US ? steps : FAR_US + (__int128)(steps - FAR_US) * 1000; }

int64_t time_from_us(__int128 us) {
    const __int128 most = TIME_NEAR_MAX / 1000, least = TIME_NEAR_MIN / 1000;
    if (us > most)
        return TIME_NEAR_MAX + far_steps(us - most);
    return us < least ? TIME_NEAR_MIN - far_steps(least - us) : (int64_t)us * 1000;
}

__int128 time_true_ns(int64_t t) {
    const __int128 most = TIME_NEAR_MAX / 1000, least = TIME_NEAR_MIN / 1000;
    if (t > TIME_NEAR_MAX)
        return (most + far_us(t - TIME_NEAR_MAX)) * 1000;
    return t < TIME_NEAR_MIN ? (least - far_us(TIME_NEAR_MIN - t)) * 1000 : t;
}

struct civil { /* a date and a time of day, UTC unless an offset stands beside */
    int64_t year;
    unsigned month, day, hour, minute, second, nano;
};

/* Days since 1970-01-01. Years start in March here, so that the leap day is the last of its year. */
static int64_t days_of_date(int64_t year, unsigned month, unsigned day) {
    year -= month <= 2;
    int64_t era = (year >= 0 ? year : year - 399) / 400;
    int64_t year_of_era = year - era * 400;
    int64_t day_of_year = (153 * ((int64_t)month + (month > 2 ? -3 : 9)) + 2) / 5 + (int64_t)day - 1;
    return era * 146097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - 719468;
}

static void date_of_days(int64_t days, struct civil *c) {
    days += 719468;
    int64_t era = (days >= 0 ? days : days - 146096) / 146097;
    int64_t day_of_era = days - era * 146097;
    int64_t year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36524 - day_of_era / 146096) / 365;
    int64_t day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    int64_t month = (5 * day_of_year + 2) / 153;
    c->day = (unsigned)(day_of_year - (153 * month + 2) / 5 + 1);
    c->month = (unsigned)(month < 10 ? month + 3 : month - 9);
    c->year = year_of_era + era * 400 + (c->month <= 2);
}

/* ---- parsing: each function takes its part off *s, or fails ---- */

static bool take_char(struct str *s, char c) {
    if (s->n == 0 || s->p[0] != c) {
        return false;
    }
    s->p++;
    s->n--;
    return true;
}

static bool take_digit(struct str *s, unsigned *ret) {
    if (s->n == 0 || s->p[0] < '0' || s->p[0] > '9') {
        return false;
    }
    *ret = (unsigned)(s->p[0] - '0');
    s->p++;
    s->n--;
    return true;
}

static bool take_2(struct str *s, unsigned *ret) {
    unsigned tens, ones;
    if (!take_digit(s, &tens) || !take_digit(s, &ones)) {
        return false;
    }
    *ret = tens * 10 + ones;
    return true;
}

#define YEAR_FAR INT64_C(1000000) /* beyond any time we keep; larger ones are counted as this */

/* Four digits, or a sign and at least four. *ret_cycle is the year modulo 400, right for any number of digits. */
static bool take_year(struct str *s, int64_t *ret, unsigned *ret_cycle) {
    bool negative = take_char(s, '-');
    if (!negative && !take_char(s, '+')) {
        unsigned century, rest;
        if (!take_2(s, &century) || !take_2(s, &rest)) {
            return false;
        }
        *ret = (int64_t)century * 100 + rest;
        *ret_cycle = (century * 100 + rest) % 400;
        return true;
    }
    int64_t year = 0;
    unsigned cycle = 0, count = 0, digit;
    while (take_digit(s, &digit)) {
        year = year < YEAR_FAR ? year * 10 + digit : YEAR_FAR;
        cycle = (cycle * 10 + digit) % 400;
        count += count < 4;
    }
    *ret = negative ? -year : year;
    *ret_cycle = cycle;
    return count == 4;
}

static unsigned days_in_month(unsigned cycle, unsigned month) {
    static const unsigned char days[] = { 31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31 };
    bool leap = cycle % 4 == 0 && (cycle % 100 != 0 || cycle == 0);
    return days[month - 1] + (unsigned)(month == 2 && leap);
}

static bool take_date(struct str *s, struct civil *c) {
    unsigned cycle = 0;
    return take_year(s, &c->year, &cycle) && take_char(s, '-') && take_2(s, &c->month) && take_char(s, '-') &&
           take_2(s, &c->day) && c->month >= 1 && c->month <= 12 && c->day >= 1 &&
           c->day <= days_in_month(cycle, c->month);
}

/* Second 60, the leap second, is the first of the next minute. */
static bool take_time(struct str *s, struct civil *c) {
    if (!take_2(s, &c->hour) || !take_char(s, ':') || !take_2(s, &c->minute) || !take_char(s, ':') ||
        !take_2(s, &c->second) || c->hour > 23 || c->minute > 59 || c->second > 60) {
        return false;
    }
    c->nano = 0;
    if (!take_char(s, '.')) {
        return true;
    }
    unsigned digit, count = 0;
    for (unsigned unit = 100000000; take_digit(s, &digit); unit /= 10) { /* unit 0: digits past the ninth are cut */
        c->nano += digit * unit;
        count = 1;
    }
    return count > 0;
}

/* Z, or +hh:mm, or +hhmm. */
static bool take_zone(struct str *s, int *ret_seconds) {
    if (take_char(s, 'Z') || take_char(s, 'z')) {
        *ret_seconds = 0;
        return true;
    }
    bool negative = take_char(s, '-');
    unsigned hours, minutes;
    if ((!negative && !take_char(s, '+')) || !take_2(s, &hours)) {
        return false;
    }
    take_char(s, ':');
    if (!take_2(s, &minutes) || hours > 23 || minutes > 59) {
        return false;
    }
    int seconds = (int)(hours * 3600 + minutes * 60);
    *ret_seconds = negative ? -seconds : seconds;
    return true;
}

enum time_parse time_parse_rfc3339(struct str s, int64_t *ret_ns) {
    struct civil c;
    int offset;
    if (!take_date(&s, &c) || !(take_char(&s, 'T') || take_char(&s, 't') || take_char(&s, ' ')) || !take_time(&s, &c) ||
        !take_zone(&s, &offset) || s.n != 0) {
        return TIME_SYNTAX;
    }
    int64_t seconds = days_of_date(c.year, c.month, c.day) * 86400 + (int64_t)c.hour * 3600 + (int64_t)c.minute * 60 +
                      (int64_t)c.second - offset; /* years are bounded by YEAR_FAR * 10 */
    __int128 ns = (__int128)seconds * NS_PER_SEC + c.nano;
    if (ns < TIME_NEAR_MIN || ns > TIME_NEAR_MAX) {
        *ret_ns = time_from_us(ns / 1000);
        return TIME_RANGE;
    }
    *ret_ns = (int64_t)ns;
    return TIME_OK;
}

/* ---- formatting ---- */

static int64_t floor_div(int64_t a, int64_t b) { return a / b - (a % b < 0); }

static struct civil civil_of_ns(int64_t t) {
    struct civil c;
    const __int128 ns = time_true_ns(t);
    int64_t seconds = (int64_t)(ns / NS_PER_SEC) - (ns % NS_PER_SEC < 0);
    int64_t days = floor_div(seconds, 86400);
    unsigned of_day = (unsigned)(seconds - days * 86400);
    c.nano = (unsigned)(ns - (__int128)seconds * NS_PER_SEC);
    date_of_days(days, &c);
    c.hour = of_day / 3600;
    c.minute = of_day / 60 % 60;
    c.second = of_day % 60;
    return c;
}

/* `width` digits and then `end`; returns the place behind. */
static char *put(char *p, unsigned v, unsigned width, char end) {
    for (unsigned i = width; i-- > 0; v /= 10) {
        p[i] = (char)('0' + v % 10);
    }
    p[width] = end;
    return p + width + 1;
}

static char *put_date(char *p, const struct civil *c, char end) {
    unsigned year = (unsigned)(c->year < 0 ? -c->year : c->year), width = 4; /* TIME_MAX: some 960,000 */
    for (unsigned most = 9999; year > most; most = most * 10 + 9)
        width++;
    if (c->year < 0 || width > 4)
        *p++ = c->year < 0 ? '-' : '+';
    p = put(p, year, width, '-');
    p = put(p, c->month, 2, '-');
    return put(p, c->day, 2, end);
}

/* Date, time and a fraction of 0, 3, 6 or 9 digits; returns the place of the zone. */
static char *put_time(char *p, const struct civil *c, unsigned nano) {
    p = put_date(p, c, 'T');
    p = put(p, c->hour, 2, ':');
    p = put(p, c->minute, 2, ':');
    p = put(p, c->second, 2, '.');
    if (nano == 0) {
        return p - 1;
    }
    if (nano % 1000000 == 0) {
        return put(p, nano / 1000000, 3, '\0') - 1;
    }
    return nano % 1000 == 0 ? put(p, nano / 1000, 6, '\0') - 1 : put(p, nano, 9, '\0') - 1;
}

size_t time_format_z(int64_t ns, char out[TIME_TEXT_MAX]) {
    struct civil c = civil_of_ns(ns);
    char *p = put_time(out, &c, c.nano - c.nano % 1000);
    p[0] = 'Z';
    p[1] = '\0';
    return (size_t)(p + 1 - out);
}

size_t time_format_offset(int64_t ns, char out[TIME_TEXT_MAX]) {
    struct civil c = civil_of_ns(ns);
    char *p = put_time(out, &c, c.nano);
    memcpy(p, "+00:00", 7);
    return (size_t)(p + 6 - out);
}

size_t time_format_date(int64_t ns, char out[TIME_TEXT_MAX]) {
    struct civil c = civil_of_ns(ns);
    return (size_t)(put_date(out, &c, '\0') - 1 - out);
}

int64_t time_floor(int64_t ns, int64_t step) {
    int64_t over = ns % step;
    if (over < 0) {
        over += step;
    }
    return ns < TIME_MIN + over ? TIME_MIN : ns - over;
}

int64_t time_add(int64_t a, int64_t b) {
    int64_t sum;
    if (__builtin_add_overflow(a, b, &sum)) {
        return b < 0 ? TIME_MIN : TIME_MAX;
    }
    return sum < TIME_MIN ? TIME_MIN : sum;
}
