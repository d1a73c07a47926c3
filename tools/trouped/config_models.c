/*
 * What the configuration says of models: figures for the routes, and what is wrong with one: a name
 * without a provider, a price that is no number.
 *
 * Called when a configuration is checked, and when its routes are made.
 */
#include <stdlib.h>
#include <string.h>

#include "tools/trouped/config_table.h"

/* A price: digits with at most one point among or behind them, at most a million dollars. NAN when
 * it is empty; false when it is none. Read by hand, since strtod knows locales. */
static bool read_price(const char *text, double *ret) {
    double number = 0, unit = 1;
    bool point = false, digits = false;
    for (const char *at = text; *at != '\0'; at++) {
        if (*at == '.' && !point) {
            point = true;
        } else if (*at >= '0' && *at <= '9') {
            number = number * 10 + (*at - '0');
            unit = point ? unit * 10 : unit;
            digits = true;
        } else {
            return false;
        }
    }
    *ret = digits ? number / unit : __builtin_nan("");
    return (digits || text[0] == '\0') && strlen(text) <= 15 && !(*ret > 1e6);
}

void tri_config_models(const tr_config *config, tr_model_own *ret_list) {
    const tr_config_model *models = config->models.items;
    for (size_t i = 0; i < config->models.count; i++) {
        const tr_config_model *from = &models[i];
        tr_model_own *to = &ret_list[i];
        *to = (tr_model_own){
            .name = from->name,
            .facts = {.context = (uint32_t)from->context, .output = (uint32_t)from->output}};
        (void)!read_price(from->in, &to->facts.in);
        (void)!read_price(from->out, &to->facts.out);
        (void)!read_price(from->cached, &to->facts.cached);
    }
}

static tr_err check_price(const tr_config *c, const char *const *price, const char *key,
                          char *why) {
    double number;
    return read_price(*price, &number)
               ? TR_OK
               : tri_config_fault(c, price, why,
                                  "%s: \"%.32s\" is no price: dollars for a million tokens, such "
                                  "as 0.15",
                                  key, *price);
}

static tr_err check_model(const tr_config *c, const tr_config_model *model, char *why) {
    const char *slash = strchr(model->name, '/');
    if (slash == NULL || slash == model->name || slash[1] == '\0') {
        return tri_config_fault(c, &model->name, why,
                                "%s: write provider/model, or provider/* for all of its models",
                                model->name);
    }
    tr_err err = check_price(c, &model->in, "in", why);
    err = err == TR_OK ? check_price(c, &model->out, "out", why) : err;
    return err == TR_OK ? check_price(c, &model->cached, "cached", why) : err;
}

tr_err tri_config_check_models(const tr_config *config, char *why) {
    const tr_config_model *models = config->models.items;
    tr_err err = TR_OK;
    for (size_t i = 0; i < config->models.count && err == TR_OK; i++) {
        err = check_model(config, &models[i], why);
    }
    return err;
}
