/*
 * Configurations of any bytes: nothing crashes or leaks, a refusal says where and why in UTF-8, and
 * what is accepted prints as YAML that is accepted again and prints the same.
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "protocol/assert.h"
#include "protocol/utf8.h"
#include "tools/trouped/config.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

static char *printed(const tr_config *config, size_t *ret_size) {
    char *text = NULL;
    FILE *out = open_memstream(&text, ret_size);
    TR_ASSERT(out != NULL);
    tr_config_print(config, out);
    (void)fclose(out);
    return text;
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size) {
    char why[TR_CONFIG_WHY_size] = "";
    tr_config config;
    tr_config again;
    if (size < 2) {
        return 0; /* the driver puts two bytes before each seed */
    }
    if (tr_config_parse((const char *)bytes + 2, size - 2, "f", &config, why) != TR_OK) {
        TR_ASSERT(strncmp(why, "f:", 2) == 0 && tr_utf8_valid(why, strlen(why)));
        return 0;
    }
    size_t once = 0;
    size_t twice = 0;
    char *first = printed(&config, &once);
    if (tr_config_parse(first, once, "printed", &again, why) != TR_OK) {
        (void)fprintf(stderr, "%s\n%s\n", why, first);
        TR_ASSERT(false);
    }
    char *second = printed(&again, &twice);
    TR_ASSERT(once == twice && memcmp(first, second, once) == 0);
    free(first);
    free(second);
    tr_config_fini(&config);
    tr_config_fini(&again);
    return 0;
}
