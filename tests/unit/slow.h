/* slow.h -- how much slower a build's programs are than the release build's: for times of tests. */
#pragma once

#if defined(__SANITIZE_THREAD__)
#define SLOW 4
#elif defined(__SANITIZE_ADDRESS__)
#define SLOW 3
#else
#define SLOW 1
#endif
