/* A security key in software, as OpenSSH's `SecurityKeyProvider` calls one (sk-api.h and PROTOCOL.u2f of its
 * source): ed25519-sk and ecdsa-sk, whose key handle is the private key. It signs as present only when it is
 * asked to be touched, and as verified only by the PIN 1234. Linked with libcrypto. */
#include <openssl/core_names.h>
#include <openssl/ec.h>
#include <openssl/evp.h>
#include <openssl/sha.h>
#include <openssl/x509.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#ifndef API
#define API 0x000a0000
#endif
#define PRESENT 0x01
#define VERIFIED 0x04
#define ECDSA 0x00
#define GENERAL (-1)
#define UNSUPPORTED (-2)
#define PIN_REQUIRED (-3)

struct option;
struct enrolled {
    uint8_t flags;
    uint8_t *public_key;
    size_t public_key_len;
    uint8_t *key_handle;
    size_t key_handle_len;
    uint8_t *signature;
    size_t signature_len;
    uint8_t *attestation_cert;
    size_t attestation_cert_len;
    uint8_t *authdata;
    size_t authdata_len;
};
struct signed_by {
    uint8_t flags;
    uint32_t counter;
    uint8_t *sig_r;
    size_t sig_r_len;
    uint8_t *sig_s;
    size_t sig_s_len;
};

static int is_verified(uint8_t flags, const char *pin) {
    return !(flags & VERIFIED) || (pin && !strcmp(pin, "1234"));
}

uint32_t sk_api_version(void) { return API; }

int sk_enroll(uint32_t alg, const uint8_t *challenge, size_t challenge_len, const char *application,
              uint8_t flags, const char *pin, struct option **options, struct enrolled **result) {
    (void)challenge, (void)challenge_len, (void)application, (void)options;
    if (!is_verified(flags, pin)) return PIN_REQUIRED;
    EVP_PKEY *key = alg == ECDSA ? EVP_EC_gen("P-256") : EVP_PKEY_Q_keygen(NULL, NULL, "ED25519");
    struct enrolled *it = calloc(1, sizeof *it);
    if (!key || !it) return GENERAL;
    it->flags = flags;
    int length = i2d_PrivateKey(key, &it->key_handle);
    if (length <= 0) return GENERAL;
    it->key_handle_len = length;
    size_t room = alg == ECDSA ? 65 : 32;
    it->public_key = calloc(1, room);
    if (alg == ECDSA) {
        if (!EVP_PKEY_get_octet_string_param(key, OSSL_PKEY_PARAM_PUB_KEY, it->public_key, room,
                                             &it->public_key_len) || it->public_key[0] != 4)
            return GENERAL;
    } else {
        it->public_key_len = room;
        if (!EVP_PKEY_get_raw_public_key(key, it->public_key, &it->public_key_len)) return GENERAL;
    }
    EVP_PKEY_free(key);
    *result = it;
    return 0;
}

static int number(const BIGNUM *from, uint8_t **to, size_t *length) {
    *length = BN_num_bytes(from);
    *to = calloc(1, *length);
    return *to && BN_bn2bin(from, *to) == (int)*length;
}

int sk_sign(uint32_t alg, const uint8_t *data, size_t data_len, const char *application,
            const uint8_t *key_handle, size_t key_handle_len, uint8_t flags, const char *pin,
            struct option **options, struct signed_by **result) {
    (void)options;
    if (!is_verified(flags, pin)) return PIN_REQUIRED;
    const unsigned char *handle = key_handle;
    EVP_PKEY *key = d2i_AutoPrivateKey(NULL, &handle, key_handle_len);
    struct signed_by *it = calloc(1, sizeof *it);
    if (!key || !it) return GENERAL;
    it->flags = flags & (PRESENT | VERIFIED);
    it->counter = 0x12345678;
    uint8_t what[SHA256_DIGEST_LENGTH * 2 + 5];
    SHA256((const uint8_t *)application, strlen(application), what);
    what[32] = it->flags;
    for (int n = 0; n < 4; n++) what[33 + n] = it->counter >> (24 - 8 * n);
    SHA256(data, data_len, what + 37);
    uint8_t signature[128];
    size_t length = sizeof signature;
    EVP_MD_CTX *context = EVP_MD_CTX_new();
    if (!EVP_DigestSignInit(context, NULL, alg == ECDSA ? EVP_sha256() : NULL, NULL, key) ||
        !EVP_DigestSign(context, signature, &length, what, sizeof what))
        return GENERAL;
    if (alg == ECDSA) {
        const unsigned char *der = signature;
        ECDSA_SIG *pair = d2i_ECDSA_SIG(NULL, &der, length);
        if (!pair || !number(ECDSA_SIG_get0_r(pair), &it->sig_r, &it->sig_r_len) ||
            !number(ECDSA_SIG_get0_s(pair), &it->sig_s, &it->sig_s_len))
            return GENERAL;
        ECDSA_SIG_free(pair);
    } else {
        it->sig_r = calloc(1, it->sig_r_len = length);
        memcpy(it->sig_r, signature, length);
    }
    EVP_MD_CTX_free(context);
    EVP_PKEY_free(key);
    *result = it;
    return 0;
}

int sk_load_resident_keys(const char *pin, struct option **options, void ***keys, size_t *count) {
    (void)pin, (void)options, (void)keys, (void)count;
    return UNSUPPORTED;
}
