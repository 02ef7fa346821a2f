/* Fuzz target: any bytes as rows, whole, byte by byte and in odd pieces: the same results, and only valid
 * numbers; for CSV the same as by libcsv alone. The first byte's lowest bit chooses the tolerant way, its others the size of the
 * odd pieces. */
#include <stdlib.h>
#include <string.h>

#include "hashing/phone.h"
#include "persist/registrations/csv_rows.h"
#include "persist/registrations/rows.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct sums {
    uint64_t records;
    uint64_t record_mix; /* apart: how far rejects are ahead of records is not promised */
    uint64_t rejects;
    uint64_t reject_mix;
    uint64_t line;
};

static void take_record(void *context, const struct record *record)
{
    struct sums *sums = context;
    if (phone_check(record->number) != PHONE_OK)
        abort();
    sums->records++;
    sums->record_mix = sums->record_mix * 31 + record->number + record->account + record->flags;
}

static void take_records(void *context, const struct record *records, size_t count)
{
    for (size_t i = 0; i < count; i++)
        take_record(context, &records[i]);
}

static uint64_t mix_text(uint64_t mix, const char *text)
{
    for (; *text != '\0'; text++)
        mix = mix * 31 + (uint8_t)*text;
    return mix;
}

static void take_reject(void *context, uint64_t line, const char *reason, const char *row)
{
    struct sums *sums = context;
    sums->rejects++;
    sums->reject_mix = mix_text(mix_text(sums->reject_mix * 31 + line, reason), row);
}

static struct sums by_rows(const char *text, size_t size, bool tolerant, size_t piece)
{
    struct sums sums = {0};
    struct rows *rows = rows_create(
        &(struct rows_options){.tolerant = tolerant, .handlers = {take_records, take_reject, &sums}});
    for (size_t at = 0; at < size; at += piece)
        if (!rows_feed(rows, text + at, size - at < piece ? size - at : piece))
            abort();
    if (!rows_finish(rows))
        abort();
    sums.line = rows_line(rows);
    rows_destroy(rows);
    return sums;
}

static struct sums by_libcsv(const char *text, size_t size, bool tolerant)
{
    struct sums sums = {0};
    struct csv_rows *rows = csv_rows_create(&(struct csv_rows_handlers){take_record, take_reject, &sums});
    if (tolerant)
        csv_rows_set_tolerant(rows);
    if (!csv_rows_feed(rows, text, size) || !csv_rows_finish(rows))
        abort();
    sums.line = csv_rows_line(rows);
    csv_rows_destroy(rows);
    return sums;
}

/* What rows.h says of JSON lines. */
static bool is_json(const char *text, size_t size)
{
    size_t at = size >= 3 && memcmp(text, "\xef\xbb\xbf", 3) == 0 ? 3 : 0;
    while (at < size && (text[at] == ' ' || text[at] == '\t' || text[at] == '\r' || text[at] == '\n'))
        at++;
    return at < size && text[at] == '{';
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size == 0)
        return 0;
    bool tolerant = data[0] & 1;
    const char *text = (const char *)data + 1;
    size--;
    struct sums whole = by_rows(text, size, tolerant, size + 1);
    struct sums bytewise = by_rows(text, size, tolerant, 1);
    struct sums odd = by_rows(text, size, tolerant, 2 + (data[0] >> 1));
    if (memcmp(&whole, &bytewise, sizeof whole) != 0 || memcmp(&whole, &odd, sizeof whole) != 0)
        abort();
    if (is_json(text, size))
        return 0;
    struct sums oracle = by_libcsv(text, size, tolerant);
    if (memcmp(&whole, &oracle, sizeof whole) != 0)
        abort();
    return 0;
}
