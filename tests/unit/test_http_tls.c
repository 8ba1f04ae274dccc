/* test_http_tls.c -- certificates from files: served, read again, kept when the new ones are bad. The certificates are
 * made here. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <time.h>

#include <cmocka.h>

#include "http_client.h"

#include <gnutls/gnutls.h>
#include <gnutls/x509.h>

#include "base/clock.h"
#include "base/log.h"
#include "http/server.h"

static char dir[] = "/tmp/xtrace-tls-XXXXXX", cert_path[64], key_path[64];

static void write_file(const char *path, const void *p, size_t n) {
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    assert_int_equal(fwrite(p, 1, n, f), n);
    assert_int_equal(fclose(f), 0);
}

/* A self-signed certificate of that serial number, and its key, into the two files. */
static void make_pair(unsigned char serial) {
    gnutls_x509_privkey_t key;
    gnutls_x509_crt_t crt;
    gnutls_datum_t pem;
    assert_int_equal(gnutls_x509_privkey_init(&key), 0);
    assert_int_equal(
        gnutls_x509_privkey_generate(key, GNUTLS_PK_ECDSA, GNUTLS_CURVE_TO_BITS(GNUTLS_ECC_CURVE_SECP256R1), 0), 0);
    assert_int_equal(gnutls_x509_crt_init(&crt), 0);
    gnutls_x509_crt_set_version(crt, 3);
    gnutls_x509_crt_set_serial(crt, &serial, 1);
    gnutls_x509_crt_set_activation_time(crt, time(NULL) - 100);
    gnutls_x509_crt_set_expiration_time(crt, time(NULL) + 100000);
    gnutls_x509_crt_set_dn(crt, "CN=localhost", NULL);
    gnutls_x509_crt_set_key(crt, key);
    assert_int_equal(gnutls_x509_crt_sign2(crt, crt, key, GNUTLS_DIG_SHA256, 0), 0);
    assert_int_equal(gnutls_x509_crt_export2(crt, GNUTLS_X509_FMT_PEM, &pem), 0);
    write_file(cert_path, pem.data, pem.size);
    gnutls_free(pem.data);
    assert_int_equal(gnutls_x509_privkey_export2(key, GNUTLS_X509_FMT_PEM, &pem), 0);
    write_file(key_path, pem.data, pem.size);
    gnutls_free(pem.data);
    gnutls_x509_crt_deinit(crt);
    gnutls_x509_privkey_deinit(key);
}

struct tls_client {
    struct client tcp;
    gnutls_session_t session;
    gnutls_certificate_credentials_t cred;
};

static int client_tls_open(struct tls_client *c, unsigned port) {
    assert_true(client_open(&c->tcp, port));
    gnutls_certificate_allocate_credentials(&c->cred);
    gnutls_init(&c->session, GNUTLS_CLIENT | GNUTLS_NO_SIGNAL);
    gnutls_set_default_priority(c->session);
    gnutls_credentials_set(c->session, GNUTLS_CRD_CERTIFICATE, c->cred);
    gnutls_transport_set_int(c->session, c->tcp.fd);
    int rc;
    do {
        rc = gnutls_handshake(c->session);
    } while (rc < 0 && !gnutls_error_is_fatal(rc));
    return rc;
}

static void client_tls_close(struct tls_client *c) {
    gnutls_deinit(c->session);
    gnutls_certificate_free_credentials(c->cred);
    client_close(&c->tcp);
}

static unsigned serial_of(struct tls_client *c) {
    unsigned n = 0;
    unsigned char serial[20] = { 0 };
    size_t serial_n = sizeof(serial);
    gnutls_x509_crt_t crt;
    const gnutls_datum_t *peers = gnutls_certificate_get_peers(c->session, &n);
    assert_true(peers && n == 1);
    gnutls_x509_crt_init(&crt);
    assert_int_equal(gnutls_x509_crt_import(crt, &peers[0], GNUTLS_X509_FMT_DER), 0);
    gnutls_x509_crt_get_serial(crt, serial, &serial_n);
    gnutls_x509_crt_deinit(crt);
    return serial[serial_n - 1];
}

/* The status of a GET. */
static int tls_get(struct tls_client *c) {
    static const char request[] = "GET /alive HTTP/1.1\r\nHost: x\r\n\r\n";
    char in[2048];
    size_t n = 0;
    int status = 0;
    assert_int_equal(gnutls_record_send(c->session, request, sizeof(request) - 1), sizeof(request) - 1);
    while (n < sizeof(in) - 1) {
        in[n] = '\0';
        if (strstr(in, "\r\n\r\n")) {
            break;
        }
        ssize_t k = gnutls_record_recv(c->session, in + n, sizeof(in) - 1 - n);
        if (k <= 0 && (k == 0 || gnutls_error_is_fatal((int)k))) {
            return 0;
        }
        n += k > 0 ? (size_t)k : 0;
    }
    return sscanf(in, "HTTP/1.1 %d", &status) == 1 ? status : 0;
}

static enum http_result alive(struct http_req *req, struct xt_err *err) {
    (void)err;
    http_reply_empty(req, 200);
    return HTTP_REPLY;
}

static const struct http_route rows[] = { { .method = "GET", .path = "/alive", .handle = alive } };

static struct http_server *start(void) {
    struct http_conf conf = { .bind_addr = "127.0.0.1:0",
                              .tls_cert = cert_path,
                              .tls_key = key_path,
                              .max_body = 1000,
                              .max_connections = 100,
                              .threads = 2,
                              .idle_timeout_ms = 20000,
                              .header_timeout_ms = 1000,
                              .request_timeout_ms = 20000,
                              .query_threads = 1,
                              .routes = rows,
                              .nroutes = 1 };
    struct http_server *s = NULL;
    struct xt_err err = { 0 };
    if (http_server_start(&conf, &s, &err) != XT_OK) {
        fail_msg("%s", err.msg);
    }
    return s;
}

static void test_reload(void **state) {
    (void)state;
    struct tls_client first, second;
    struct xt_err err = { 0 };
    make_pair(1);
    struct http_server *s = start();
    assert_int_equal(client_tls_open(&first, http_server_port(s)), 0);
    assert_int_equal(serial_of(&first), 1);
    assert_int_equal(tls_get(&first), 200);
    for (unsigned char i = 2; i < 5; i++) {
        make_pair(i);
        assert_int_equal(http_server_reload_tls(s, &err), XT_OK);
        assert_int_equal(client_tls_open(&second, http_server_port(s)), 0);
        assert_int_equal(serial_of(&second), i);
        assert_int_equal(tls_get(&second), 200);
        client_tls_close(&second);
        assert_int_equal(tls_get(&first), 200); /* under the credentials it began with */
    }
    client_tls_close(&first);
    http_server_stop(s, clock_mono_ns());
}

static void test_bad_files(void **state) {
    (void)state;
    struct tls_client c;
    char cert[4096];
    make_pair(7);
    struct http_server *s = start();
    FILE *f = fopen(cert_path, "r");
    size_t n = fread(cert, 1, sizeof(cert), f);
    fclose(f);
    for (int kind = 0; kind < 4; kind++) {
        struct xt_err err = { 0 };
        make_pair(8);
        if (kind == 0) {
            write_file(key_path, "nonsense", 8);
        } else if (kind == 1) {
            write_file(cert_path, cert, n); /* of another key */
        } else if (kind == 2) {
            write_file(cert_path, "", 0);
        } else {
            unlink(key_path);
        }
        assert_int_equal(http_server_reload_tls(s, &err), XT_EINVAL);
        assert_non_null(strstr(err.msg, "TLS"));
        assert_null(strstr(err.msg, dir)); /* names the file's part, not its place */
        assert_int_equal(client_tls_open(&c, http_server_port(s)), 0);
        assert_int_equal(serial_of(&c), 7);
        assert_int_equal(tls_get(&c), 200);
        client_tls_close(&c);
    }
    http_server_stop(s, clock_mono_ns());
}

/* Plain text at the port, and handshakes that never come to an end. */
static void test_no_handshake(void **state) {
    (void)state;
    static struct client plain, mute;
    struct tls_client c;
    struct answer a;
    make_pair(9);
    struct http_server *s = start();
    int64_t begin = clock_mono_ns();
    assert_true(client_open(&plain, http_server_port(s)) && client_open(&mute, http_server_port(s)));
    assert_true(client_text(&plain, "GET /alive HTTP/1.1\r\nHost: x\r\n\r\n"));
    assert_true(client_text(&mute, "\x16\x03\x01"));
    client_answer(&plain, &a, false);
    assert_int_equal(a.status, 0);
    assert_true(client_ended(&mute));
    assert_true(clock_mono_ns() - begin < 10 * NS_PER_SEC);
    client_close(&plain);
    client_close(&mute);
    assert_int_equal(client_tls_open(&c, http_server_port(s)), 0);
    assert_int_equal(tls_get(&c), 200);
    http_server_stop(s, clock_mono_ns()); /* with the connection open */
    client_tls_close(&c);
}

static int make_dir(void **state) {
    (void)state;
    if (!mkdtemp(dir)) {
        return -1;
    }
    snprintf(cert_path, sizeof(cert_path), "%s/cert.pem", dir);
    snprintf(key_path, sizeof(key_path), "%s/key.pem", dir);
    log_set_level(LOG_ERROR);
    return 0;
}

static int drop_dir(void **state) {
    (void)state;
    unlink(cert_path);
    unlink(key_path);
    return rmdir(dir);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_reload),
        cmocka_unit_test(test_bad_files),
        cmocka_unit_test(test_no_handshake),
    };
    return cmocka_run_group_tests(tests, make_dir, drop_dir);
}
