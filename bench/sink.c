/* sink.c -- yardstick for bench/run: an HTTP server that reads every body to its end and answers 200, with the library,
 * the threads and the connection memory of the real one and nothing behind it. What the load generator reaches here is the
 * most that any server built this way could.
 *
 *   sink      prints its port; ends when its standard input does */
#include <arpa/inet.h>
#include <microhttpd.h>
#include <stdio.h>
#include <unistd.h>

#define POOL_BYTES ((size_t)40 << 10)
#define THREADS_MAX 4

static enum MHD_Result on_request(void *cls, struct MHD_Connection *c, const char *url, const char *method,
                                  const char *version, const char *data, size_t *n, void **state) {
    struct MHD_Response *answer = cls;
    (void)url;
    (void)method;
    (void)version;
    (void)data;
    if (!*state) {
        *state = answer; /* the head; the body comes with the next calls */
        return MHD_YES;
    }
    if (*n) {
        *n = 0; /* all of it was read */
        return MHD_YES;
    }
    return MHD_queue_response(c, 200, answer);
}

int main(void) {
    static const char text[] = "{\"message\":\"Request Successful.\"}";
    long cores = sysconf(_SC_NPROCESSORS_ONLN);
    unsigned threads = cores < 1 ? 1 : cores > THREADS_MAX ? THREADS_MAX : (unsigned)cores;
    struct sockaddr_in a = { .sin_family = AF_INET };
    a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    struct MHD_Response *answer =
        MHD_create_response_from_buffer(sizeof text - 1, (void *)(uintptr_t)text, MHD_RESPMEM_PERSISTENT);
    struct MHD_Daemon *d =
        answer ? MHD_start_daemon(MHD_USE_EPOLL_INTERNAL_THREAD, 0, NULL, NULL, on_request, answer, /* */
                                  MHD_OPTION_CONNECTION_MEMORY_LIMIT, POOL_BYTES,                   /* */
                                  MHD_OPTION_THREAD_POOL_SIZE, threads > 1 ? threads : 0U,          /* */
                                  MHD_OPTION_SOCK_ADDR, (struct sockaddr *)&a, MHD_OPTION_END)
               : NULL;
    const union MHD_DaemonInfo *info = d ? MHD_get_daemon_info(d, MHD_DAEMON_INFO_BIND_PORT) : NULL;
    if (!info) {
        fputs("sink: cannot start\n", stderr);
        return 1;
    }
    printf("%u\n", (unsigned)info->port);
    fflush(stdout);
    while (getchar() != EOF)
        ;
    MHD_stop_daemon(d);
    MHD_destroy_response(answer);
    return 0;
}
