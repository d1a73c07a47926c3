/*
 * Certificates for tests of tls+tcp://: self-signed, for localhost and 127.0.0.1 (as a DNS name
 * too, since mbed TLS matches no addresses), good for a hundred years, and of no use to anybody
 * else.
 */
#ifndef TR_TESTS_LIB_CERT_H
#define TR_TESTS_LIB_CERT_H

extern const char tr_test_cert[];    /* PEM: what a dialer trusts */
extern const char tr_test_key[];     /* PEM: its key */
extern const char tr_other_cert[];   /* PEM: somebody else's */
extern const char tr_expired_cert[]; /* PEM: for localhost and 127.0.0.1, until 2020 */
extern const char tr_expired_key[];

#endif
