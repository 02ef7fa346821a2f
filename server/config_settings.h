/* The settings of numberd as a table: what each is called, takes and means; values from text and back. For config.c alone. */
#ifndef NUMBERD_SERVER_CONFIG_SETTINGS_H
#define NUMBERD_SERVER_CONFIG_SETTINGS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "server/config.h"

enum setting_kind { KIND_TEXT, KIND_INTEGER, KIND_BYTES, KIND_CHOICE, KIND_POLICY, KIND_BUDGET };

#define SETTING_CHOICES_MAX 3

/* One setting: a flag and a key of the file. */
struct setting {
    const char *name;
    const char *argument;
    const char *help;
    enum setting_kind kind;
    size_t offset; /* in struct config */
    uint64_t min;
    uint64_t max;
    /* KIND_CHOICE: what sets the bool to false, and to true. KIND_POLICY: what sets the integer to 0, 1, 2. */
    const char *choices[SETTING_CHOICES_MAX];
};

/* All of them, in the order of the help. */
const struct setting *setting_list(size_t *count);

/* NULL when there is no such one. */
const struct setting *setting_find(const char *name);

/* The setting whose name is at most a third different from that: what may have been meant; NULL when none is. */
const struct setting *setting_nearest(const char *name);

/* Sets the field; false when the value is not one of the setting's, or memory is short. */
bool setting_assign(struct config *config, const struct setting *setting, const char *value);

/* The field's value as setting_assign takes it; "" for a text that is not set. */
#define SETTING_VALUE_BYTES 4096
void setting_format(const struct config *config, const struct setting *setting,
                    char value[static SETTING_VALUE_BYTES]);

#endif
