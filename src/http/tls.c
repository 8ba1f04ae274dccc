/* tls.c -- see tls.h. mu guards `current`; a set of credentials is const once it is there. */
#include "http/tls.h"

#include <errno.h>
#include <fcntl.h>
#include <gnutls/gnutls.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/buf.h"

#define PEM_MAX ((size_t)1 << 20) /* bytes of a file */

struct tls_cred {
    _Atomic unsigned refs;
    gnutls_certificate_credentials_t cred;
};

struct tls {
    char *cert_path, *key_path;
    struct buf cert, key; /* of the first load */
    pthread_mutex_t mu;
    struct tls_cred *current;
};

static enum xt_code read_file(const char *what, const char *path, struct buf *out, struct xt_err *err) {
    char reason[128], chunk[4096];
    ssize_t n = -1;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    while (fd >= 0 && ((n = read(fd, chunk, sizeof(chunk))) > 0 || (n < 0 && errno == EINTR))) {
        buf_add(out, chunk, n > 0 ? (size_t)n : 0);
    }
    int error = errno;
    if (fd >= 0) {
        close(fd);
    }
    explicit_bzero(chunk, sizeof(chunk));
    if (n < 0) {
        return xt_fail(err, XT_EINVAL, "cannot read the TLS %s file: %s", what,
                       strerror_r(error, reason, sizeof(reason)));
    }
    return out->failed ? xt_fail(err, XT_EINVAL, "the TLS %s file is too large", what) : XT_OK;
}

/* A private key does not stay in freed memory. */
static void wipe(struct buf *b) {
    if (b->p) {
        explicit_bzero(b->p, b->cap);
    }
    buf_done(b);
}

void tls_cred_unref(struct tls_cred *c) {
    if (c && atomic_fetch_sub_explicit(&c->refs, 1, memory_order_acq_rel) == 1) {
        gnutls_certificate_free_credentials(c->cred);
        free(c);
    }
}

static enum xt_code parse(const struct buf *cert, const struct buf *key, struct tls_cred **ret, struct xt_err *err) {
    gnutls_datum_t c = { (unsigned char *)cert->p, (unsigned)cert->n },
                   k = { (unsigned char *)key->p, (unsigned)key->n };
    struct tls_cred *made = calloc(1, sizeof(*made));
    if (!made || gnutls_certificate_allocate_credentials(&made->cred) != GNUTLS_E_SUCCESS) {
        free(made);
        return xt_fail(err, XT_ENOMEM, "out of memory");
    }
    atomic_init(&made->refs, 1);
    int rc = gnutls_certificate_set_x509_key_mem(made->cred, &c, &k, GNUTLS_X509_FMT_PEM);
    if (rc < 0) {
        tls_cred_unref(made);
        return xt_fail(err, XT_EINVAL, "TLS certificate and key: %s", gnutls_strerror(rc));
    }
    *ret = made;
    return XT_OK;
}

static enum xt_code load(struct tls *t, struct buf *cert, struct buf *key, struct tls_cred **ret, struct xt_err *err) {
    enum xt_code rc = read_file("certificate", t->cert_path, cert, err);
    if (rc == XT_OK) {
        rc = read_file("key", t->key_path, key, err);
    }
    if (rc == XT_OK && (cert->n == 0 || key->n == 0)) {
        rc = xt_fail(err, XT_EINVAL, "the TLS %s file is empty", cert->n == 0 ? "certificate" : "key");
    }
    return rc == XT_OK ? parse(cert, key, ret, err) : rc;
}

enum xt_code tls_open(const char *cert_path, const char *key_path, struct tls **ret, struct xt_err *err) {
    struct tls *t = calloc(1, sizeof(*t));
    if (!t) {
        return xt_fail(err, XT_ENOMEM, "out of memory");
    }
    pthread_mutex_init(&t->mu, NULL);
    buf_init(&t->cert, PEM_MAX);
    buf_init(&t->key, PEM_MAX);
    t->cert_path = strdup(cert_path);
    t->key_path = strdup(key_path);
    enum xt_code rc = t->cert_path && t->key_path ? load(t, &t->cert, &t->key, &t->current, err)
                                                  : xt_fail(err, XT_ENOMEM, "out of memory");
    if (rc != XT_OK) {
        tls_free(t);
        return rc;
    }
    *ret = t;
    return XT_OK;
}

void tls_free(struct tls *t) {
    if (!t) {
        return;
    }
    tls_cred_unref(t->current);
    buf_done(&t->cert);
    wipe(&t->key);
    free(t->cert_path);
    free(t->key_path);
    pthread_mutex_destroy(&t->mu);
    free(t);
}

enum xt_code tls_reload(struct tls *t, struct xt_err *err) {
    struct buf cert, key;
    struct tls_cred *fresh = NULL;
    buf_init(&cert, PEM_MAX);
    buf_init(&key, PEM_MAX);
    enum xt_code rc = load(t, &cert, &key, &fresh, err);
    buf_done(&cert);
    wipe(&key);
    if (rc != XT_OK) {
        return rc;
    }
    pthread_mutex_lock(&t->mu);
    struct tls_cred *old = t->current;
    t->current = fresh;
    pthread_mutex_unlock(&t->mu);
    tls_cred_unref(old);
    return XT_OK;
}

const char *tls_cert_pem(const struct tls *t) { return t->cert.p; }
const char *tls_key_pem(const struct tls *t) { return t->key.p; }

struct tls_cred *tls_session_start(struct tls *t, void *session) {
    pthread_mutex_lock(&t->mu);
    struct tls_cred *c = t->current;
    atomic_fetch_add_explicit(&c->refs, 1, memory_order_relaxed);
    pthread_mutex_unlock(&t->mu);
    if (gnutls_credentials_set(session, GNUTLS_CRD_CERTIFICATE, c->cred) != GNUTLS_E_SUCCESS) {
        tls_cred_unref(c);
        return NULL;
    }
    return c;
}
