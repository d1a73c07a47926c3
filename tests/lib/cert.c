/* See cert.h. Made by: openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes
 * -days 36500 -subj /CN=localhost -addext subjectAltName=DNS:localhost,DNS:127.0.0.1,IP:127.0.0.1
 */
#include "tests/lib/cert.h"

const char tr_test_cert[] = "-----BEGIN CERTIFICATE-----\n"
                            "MIIBpjCCAUygAwIBAgIUD8369lG3b6ZSrxGNxmcLJld8JZ4wCgYIKoZIzj0EAwIw\n"
                            "FDESMBAGA1UEAwwJbG9jYWxob3N0MCAXDTI2MTEyNTA2MTgyN1oYDzIxMjYxMTAx\n"
                            "MDYxODI3WjAUMRIwEAYDVQQDDAlsb2NhbGhvc3QwWTATBgcqhkjOPQIBBggqhkjO\n"
                            "PQMBBwNCAARNUWbAXczt8tFxPRLOQSRx2L7K4ydNy/fAab3jn6z4xMKvOIrzmxoy\n"
                            "ffCg+WRDu6y/ZDiOq3x/Od4iCo95CAZLo3oweDAdBgNVHQ4EFgQUHSfyJY4Gi/Bq\n"
                            "ooJRYkW/8DeP0LwwHwYDVR0jBBgwFoAUHSfyJY4Gi/BqooJRYkW/8DeP0LwwDwYD\n"
                            "VR0TAQH/BAUwAwEB/zAlBgNVHREEHjAcgglsb2NhbGhvc3SCCTEyNy4wLjAuMYcE\n"
                            "fwAAATAKBggqhkjOPQQDAgNIADBFAiEA+VicyKtNHg9tf/RN5fIERecoU0sqB7nG\n"
                            "NcFt+CYOyrACIDIMvC0j3fXYMr4ZmmpyKDVERp/qitjx+M7dnPRp/2UO\n"
                            "-----END CERTIFICATE-----\n";

const char tr_test_key[] = "-----BEGIN PRIVATE KEY-----\n"
                           "MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgU/ixK+vSufxxaAIB\n"
                           "aBHm1saBlsSyORqdF4+VW/xsnyihRANCAARNUWbAXczt8tFxPRLOQSRx2L7K4ydN\n"
                           "y/fAab3jn6z4xMKvOIrzmxoyffCg+WRDu6y/ZDiOq3x/Od4iCo95CAZL\n"
                           "-----END PRIVATE KEY-----\n";

const char tr_other_cert[] = "-----BEGIN CERTIFICATE-----\n"
                             "MIIBjjCCATWgAwIBAgIUKSZl2VOzLztJWUhjS3IGzCZhraMwCgYIKoZIzj0EAwIw\n"
                             "HDEaMBgGA1UEAwwRZWxzZXdoZXJlLmludmFsaWQwIBcNMjYxMTI1MDYxODI3WhgP\n"
                             "MjEyNjExMDEwNjE4MjdaMBwxGjAYBgNVBAMMEWVsc2V3aGVyZS5pbnZhbGlkMFkw\n"
                             "EwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEQd5Us4F5i2EyQTfomsyG2x0O9bur7MWm\n"
                             "vjYc2TXu+s/awh9dCxaz9UIKFy+4Yt+hsg24B6tat7dvRuDVAgN96KNTMFEwHQYD\n"
                             "VR0OBBYEFKVIv28ue5MGTsHM4NAzJtMi4RRKMB8GA1UdIwQYMBaAFKVIv28ue5MG\n"
                             "TsHM4NAzJtMi4RRKMA8GA1UdEwEB/wQFMAMBAf8wCgYIKoZIzj0EAwIDRwAwRAIg\n"
                             "fPf08WhIA3s9MkQYbM301hKtDvZiO1R+ii9P31hEDaECIDKfTYVGTf+e4rVisToU\n"
                             "H+aJ3Fa4rXXLPGs9gAtwxyHA\n"
                             "-----END CERTIFICATE-----\n";

const char tr_expired_cert[] = "-----BEGIN CERTIFICATE-----\n"
                               "MIIBYjCCAQigAwIBAgIBATAKBggqhkjOPQQDAjAUMRIwEAYDVQQDDAlsb2NhbGhv\n"
                               "c3QwHhcNMjAwMTAxMDAwMDAwWhcNMjAwMTAyMDAwMDAwWjAUMRIwEAYDVQQDDAls\n"
                               "b2NhbGhvc3QwWTATBgcqhkjOPQIBBggqhkjOPQMBBwNCAAQDIni3uvBcnBhJ+rjZ\n"
                               "Ez3GoisHr/2i4f7KY3YlyuPlLPkoePEICyUDRQ8eYuEkSo9scVFbGFf3/thrpTyg\n"
                               "tAzzo0swSTAMBgNVHRMEBTADAQH/MBoGA1UdEQQTMBGCCWxvY2FsaG9zdIcEfwAA\n"
                               "ATAdBgNVHQ4EFgQUYZn8GgA0Wdi2q482hf6db3rLtpkwCgYIKoZIzj0EAwIDSAAw\n"
                               "RQIgcCuKjXGJikHLCmN3qrK+eTnNHYMc9V+KHUT+7lWACw0CIQDG1ojqCPeUHlZD\n"
                               "98atIh/dc/l/l5Ad65W0BE9Ba5790g==\n"
                               "-----END CERTIFICATE-----\n";

const char tr_expired_key[] = "-----BEGIN EC PRIVATE KEY-----\n"
                              "MHcCAQEEIHLWeHdq2rR6d49QDZG4XtPxv9iFH299gTL5Tv4RL9ogoAoGCCqGSM49\n"
                              "AwEHoUQDQgAEAyJ4t7rwXJwYSfq42RM9xqIrB6/9ouH+ymN2Jcrj5Sz5KHjxCAsl\n"
                              "A0UPHmLhJEqPbHFRWxhX9/7Ya6U8oLQM8w==\n"
                              "-----END EC PRIVATE KEY-----\n";
