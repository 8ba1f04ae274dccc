/* tls.h -- certificates of the listener. A set of credentials is shared by the connections that began under it and lives
 * until the last of them ends, so a reload never pulls a key from under a handshake. */
#pragma once
#include "base/err.h"

struct tls;
struct tls_cred;

enum xt_code tls_open(const char *cert_path, const char *key_path, struct tls **ret, struct xt_err *err);
void tls_free(struct tls *t);
/* Reads the files again; on failure the old ones stay in use. Any thread. */
enum xt_code tls_reload(struct tls *t, struct xt_err *err);
/* PEM texts of the first load, for the library that wants its own copy at start. */
const char *tls_cert_pem(const struct tls *t);
const char *tls_key_pem(const struct tls *t);
/* Gives a session (gnutls_session_t) that has not begun its handshake the current credentials. The reference belongs to
 * the connection: tls_cred_unref after the session is gone. NULL: the session keeps what it has. */
struct tls_cred *tls_session_start(struct tls *t, void *session);
void tls_cred_unref(struct tls_cred *c);
