/* Fuzz target: any bytes as CSV, whole and byte by byte: the same rows, and only valid numbers. */
#include <stdlib.h>

#include "hashing/phone.h"
#include "persist/registrations/csv_rows.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct sums {
    uint64_t records;
    uint64_t rejects;
    uint64_t mix;
};

static void take_record(void *context, const struct record *record)
{
    struct sums *sums = context;
    if (phone_check(record->number) != PHONE_OK)
        abort();
    sums->records++;
    sums->mix = sums->mix * 31 + record->number + record->account + record->flags;
}

static void take_reject(void *context, uint64_t line, const char *reason, const char *row)
{
    struct sums *sums = context;
    sums->rejects++;
    sums->mix = sums->mix * 31 + line + (uint64_t)reason[0] + (uint64_t)row[0];
}

static struct sums parse(const uint8_t *data, size_t size, size_t piece)
{
    struct sums sums = {0};
    struct csv_rows *rows = csv_rows_create(&(struct csv_rows_handlers){take_record, take_reject, &sums});
    for (size_t at = 0; at < size; at += piece)
        if (!csv_rows_feed(rows, (const char *)data + at, size - at < piece ? size - at : piece))
            abort();
    if (!csv_rows_finish(rows))
        abort();
    csv_rows_destroy(rows);
    return sums;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct sums whole = parse(data, size, size + 1);
    struct sums bytewise = parse(data, size, 1);
    if (whole.records != bytewise.records || whole.rejects != bytewise.rejects || whole.mix != bytewise.mix)
        abort();
    return 0;
}
