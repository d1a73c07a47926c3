/*
 * How alike three sentences are: the cosine of their embeddings.
 * cc embeddings.c $(pkg-config --cflags --libs troupe) -lm
 */
#include <math.h>
#include <stdio.h>
#include <troupe.h>

#define N 3

static double cosine(const float *a, const float *b, size_t n) {
    double ab = 0, aa = 0, bb = 0;
    for (size_t i = 0; i < n; i++) {
        ab += (double)a[i] * b[i];
        aa += (double)a[i] * a[i];
        bb += (double)b[i] * b[i];
    }
    return ab / sqrt(aa * bb);
}

int main(int argc, char **argv) {
    static const char *const texts[N] = {"The cat sleeps.", "A cat is asleep.", "Stocks fell."};
    tr_options options = TR_OPTIONS_INIT;
    options.model = argc > 1 ? argv[1] : NULL;
    tr_client *client = NULL;
    float *vectors;
    size_t dimension;
    tr_err err = tr_client_open(NULL, &client);
    if (err == TR_OK) {
        err = tr_embed(client, &options, texts, N, &vectors, &dimension);
    }
    if (err != TR_OK) {
        fprintf(stderr, "%s\n", tr_client_error());
        tr_client_close(client);
        return 1;
    }
    for (size_t i = 1; i < N; i++) {
        printf("%.3f  %s / %s\n", cosine(vectors, vectors + i * dimension, dimension), texts[0],
               texts[i]);
    }
    tr_memory_free(vectors);
    tr_client_close(client);
    return 0;
}
