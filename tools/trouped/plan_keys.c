/*
 * The keychains of the providers: what the configuration says of their sources, else the store's
 * file and the catalog's variables. Providers of the catalog that share an account share its file.
 * At start and at each reload, on the program's thread.
 */
#include <limits.h>
#include <stdio.h>

#include "providers/catalog.h"
#include "providers/key_file.h"
#include "runtime/log.h"
#include "tools/trouped/daemon_internal.h"

tr_keychain *tri_plan_keychain(const tr_config *config, const char *name, const char *kind) {
    const tr_config_provider *given = tri_plan_configured(config, name);
    char store[PATH_MAX];
    bool stored = tr_key_store_file(tr_catalog_account(name), store, sizeof store);
    tr_keychain_spec spec = {.provider = name,
                             .kind = kind,
                             .sources = given != NULL ? given->keys.items : NULL,
                             .source_count = given != NULL ? given->keys.count : 0,
                             .store_file = stored ? store : NULL};
    tr_keychain *chain = NULL;
    return tr_keychain_new(&spec, &chain) == TR_OK ? chain : NULL;
}

void tri_plan_reload_keys(tr_daemon *d, const tr_config *config) {
    for (size_t i = 0; i < d->provider_count; i++) {
        const char *name = d->providers[i].name;
        const tr_config_provider *given = tri_plan_configured(config, name);
        tr_err err =
            tr_keychain_configure(d->keychains[i], given != NULL ? given->keys.items : NULL,
                                  given != NULL ? given->keys.count : 0);
        if (err != TR_OK) { /* the check has looked at each */
            tr_log(TR_LOG_WARN, NULL, "keys stay as they were", "provider=%s", name);
        }
    }
}
