/* The report of a load as one page of HTML: no script and nothing from elsewhere, its two charts are SVG. See load_report.h. */
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "load_report.h"

/* A chart's area of drawing within its box of 720 x 280. */
#define LEFT 76.0
#define TOP 16.0
#define WIDTH 628.0
#define HEIGHT 216.0

static const char style[] =
    ":root{color-scheme:light "
    "dark;--text:#1a1a1a;--dim:#666;--line:#ddd;--back:#fff;--one:#0b5cad;--two:#b5480b}\n"
    "@media(prefers-color-scheme:dark){:root{--text:#eee;--dim:#aaa;--line:#3a3a3a;--back:#161616;--one:#"
    "6db3ff;--two:#ffab73}}\n"
    "body{font:16px/1.5 "
    "system-ui,sans-serif;color:var(--text);background:var(--back);max-width:48rem;margin:2rem "
    "auto;padding:0 1rem}\n"
    "h1{font-size:1.4rem}h2{font-size:1.1rem;margin:2rem 0 .5rem}table{border-collapse:collapse;width:100%}\n"
    "th,td{text-align:right;padding:.25rem .6rem;border-bottom:1px solid "
    "var(--line);font-variant-numeric:tabular-nums}\n"
    "th:first-child,td:first-child{text-align:left}.scroll{overflow-x:auto}svg{width:100%;min-width:34rem;"
    "height:auto;"
    "display:block}\n"
    "svg text{font-size:12px;fill:var(--dim)}svg .axis{stroke:var(--line)}svg "
    "path{fill:none;stroke-width:2}\n"
    ".one{stroke:var(--one)}.two{stroke:var(--two)}.wrong{color:#c00;font-weight:bold}code{overflow-wrap:"
    "anywhere}\n";

/* --- axes --- */

/* A value as far as three figures go, with k, M, G. */
static void format_short(double value, char text[static 16])
{
    static const char units[] = {0, 'k', 'M', 'G'};
    unsigned unit = 0;
    for (; fabs(value) >= 1000 && unit + 1 < sizeof units; unit++)
        value /= 1000;
    int length = snprintf(text, 15, "%.3g", value);
    if (unit > 0 && length > 0 && length < 15) {
        text[length] = units[unit];
        text[length + 1] = '\0';
    }
}

/* The least of 1, 2, 5, 10, 20, ... that is not below. */
static double round_up(double value)
{
    double power = pow(10, floor(log10(value > 0 ? value : 1)));
    for (unsigned i = 0; i < 3; i++) {
        static const double steps[] = {1, 2, 5};
        if (value <= steps[i] * power)
            return steps[i] * power;
    }
    return 10 * power;
}

static void begin_chart(FILE *out, const char *title, const char *about)
{
    fprintf(
        out,
        "<h2>%s</h2>\n<div class=\"scroll\"><svg viewBox=\"0 0 720 280\" role=\"img\" aria-label=\"%s\">\n",
        title, about);
}

/* Horizontal lines with their values, from 0 to max. */
static void put_scale(FILE *out, double max, const char *unit)
{
    for (unsigned i = 0; i <= 4; i++) {
        char text[16];
        double y = TOP + HEIGHT * (1 - i / 4.0);
        format_short(max * i / 4, text);
        fprintf(out, "<line class=\"axis\" x1=\"%.1f\" x2=\"%.1f\" y1=\"%.1f\" y2=\"%.1f\"/>", LEFT,
                LEFT + WIDTH, y, y);
        fprintf(out, "<text x=\"%.1f\" y=\"%.1f\" text-anchor=\"end\">%s%s</text>\n", LEFT - 6, y + 4, text,
                unit);
    }
}

static void put_tick(FILE *out, double x, const char *text)
{
    fprintf(out, "<text x=\"%.1f\" y=\"%.1f\" text-anchor=\"middle\">%s</text>\n", x, TOP + HEIGHT + 20,
            text);
}

/* --- throughput --- */

static void put_throughput(FILE *out, const struct load_report *report)
{
    const struct load_second *all = report->timeline;
    uint64_t length = report->timeline_length;
    double most = 0;
    if (length < 2)
        return; /* no line */
    for (uint64_t i = 0; i < length; i++)
        most = fmax(most, all[i].numbers_per_second);
    double top = round_up(most);
    double end = all[length - 1].seconds;
    begin_chart(out, "Numbers answered a second", "Numbers answered a second, over the time of the load");
    put_scale(out, top, "");
    for (unsigned i = 0; i <= 4; i++) {
        char text[24];
        snprintf(text, sizeof text, "%.3g s", end * i / 4);
        put_tick(out, LEFT + WIDTH * i / 4, text);
    }
    fprintf(out, "<path class=\"one\" d=\"");
    for (uint64_t i = 0; i < length; i++)
        fprintf(out, "%c%.1f %.1f", i == 0 ? 'M' : 'L', LEFT + WIDTH * all[i].seconds / end,
                TOP + HEIGHT * (1 - all[i].numbers_per_second / top));
    fprintf(out, "\"/>\n</svg></div>\n");
}

/* --- latency --- */

/* Where a share lies on an axis that ends in ever more nines: 0, 0.9, 0.99, ... */
static double nines(double share)
{
    return share < 1 ? -log10(1 - share) : HUGE_VAL;
}

struct curve {
    FILE *out;
    uint64_t total;
    double nines_max;
    double top_ms;
    bool has_begun;
};

static void put_point(void *context, uint64_t end_ns, uint64_t up_to)
{
    struct curve *curve = context;
    double at = fmin(nines((double)up_to / (double)curve->total), curve->nines_max);
    fprintf(curve->out, "%c%.1f %.1f", curve->has_begun ? 'L' : 'M', LEFT + WIDTH * at / curve->nines_max,
            TOP + HEIGHT * (1 - (double)end_ns / 1e6 / curve->top_ms));
    curve->has_begun = true;
}

static void put_curve(FILE *out, const struct histogram *latency)
{
    if (latency->total == 0)
        return;
    struct curve curve = {.out = out,
                          .total = latency->total,
                          .nines_max = fmax(2, ceil(log10((double)latency->total))),
                          .top_ms = round_up((double)histogram_percentile(latency, 100) / 1e6)};
    begin_chart(out, "Latency by percentile", "Latency of a request by percentile");
    put_scale(out, curve.top_ms, " ms");
    for (unsigned i = 0; i <= (unsigned)curve.nines_max; i++) {
        char text[24];
        snprintf(text, sizeof text, "%.*f %%", i < 3 ? 0 : (int)i - 2, 100 * (1 - pow(10, -(double)i)));
        /* The last one would be cut off. */
        put_tick(out, LEFT + WIDTH * i / curve.nines_max - (i == (unsigned)curve.nines_max ? 24 : 0), text);
    }
    fprintf(out, "<path class=\"two\" d=\"");
    histogram_each(latency, put_point, &curve);
    fprintf(out, "\"/>\n</svg></div>\n");
}

/* --- the page --- */

static void put_percentiles(FILE *out, const struct histogram *latency)
{
    static const double percents[] = {50, 90, 99, 99.9, 99.99, 100};
    fprintf(out, "<div class=\"scroll\"><table><tr><th>latency</th>");
    for (unsigned i = 0; i < 5; i++)
        fprintf(out, "<th>p%g</th>", percents[i]);
    fprintf(out, "<th>max</th></tr>\n<tr><td>ms</td>");
    for (unsigned i = 0; i < 6; i++)
        fprintf(out, "<td>%.3f</td>", (double)histogram_percentile(latency, percents[i]) / 1e6);
    fprintf(out, "</tr></table></div>\n");
}

/* What was asked for, as far as it makes the figures what they are. */
static void put_load(FILE *out, const struct load_options *options)
{
    static const char *const draws[] = {"uniform", "zipf", "sequential"};
    fprintf(out,
            "<p>%s, %s; %" PRIu64 " numbers registered, seed %" PRIu64 "; %" PRIu64 " connections, %" PRIu64
            " threads; ",
            options->dialect->name, options->verb == LOAD_REGISTER ? "registrations" : "lookups",
            options->count, options->seed, options->connections, options->threads);
    if (options->rate > 0)
        fprintf(out, "open loop, %" PRIu64 " numbers/s, %s; ", options->rate,
                options->poisson ? "Poisson" : "evenly");
    else
        fprintf(out, "closed loop, %" PRIu64 " requests under way on each; ", options->outstanding);
    if (options->spin_us > 0)
        fprintf(out, "spinning for %" PRIu64 " us before sleeping; ", options->spin_us);
    if (options->books)
        fprintf(out, "requests as large as address books");
    else
        fprintf(out, "%" PRIu64 " numbers in a request", options->batch);
    fprintf(out, "; numbers drawn %s, hit ratio %g.</p>\n", draws[options->draw], options->hit_ratio);
}

static void put_page(FILE *out, const struct load_report *report, const struct load_options *options)
{
    const struct load_record *total = &report->total;
    char date[32];
    struct tm utc;
    time_t now = time(NULL);
    strftime(date, sizeof date, "%Y-%m-%d %H:%M UTC", gmtime_r(&now, &utc));
    double seconds = report->seconds > 0 ? report->seconds : 1;
    uint64_t faults = load_record_count(total, LOAD_WRONG) + load_record_count(total, LOAD_BROKEN);
    fprintf(out,
            "<!doctype html>\n<html lang=\"en\"><meta charset=\"utf-8\"><meta name=\"viewport\" "
            "content=\"width=device-width\">\n<title>numberload</title>\n<style>\n%s</style>\n",
            style);
    fprintf(out, "<h1>A load of %.0f seconds, %s</h1>\n", report->seconds, date);
    put_load(out, options);
    fprintf(out,
            "<div class=\"scroll\"><table><tr><th></th><th>a second</th><th>in all</th></tr>\n"
            "<tr><td>numbers</td><td>%.0f</td><td>%" PRIu64
            "</td></tr>\n<tr><td>requests</td><td>%.0f</td><td>%" PRIu64 "</td></tr></table></div>\n",
            (double)load_record_count(total, LOAD_NUMBERS) / seconds, load_record_count(total, LOAD_NUMBERS),
            (double)load_record_count(total, LOAD_REQUESTS) / seconds,
            load_record_count(total, LOAD_REQUESTS));
    fprintf(out,
            "<p%s>%" PRIu64 " wrong answers, %" PRIu64 " requests unavailable, %" PRIu64
            " connections broken.</p>\n",
            faults > 0 ? " class=\"wrong\"" : "", load_record_count(total, LOAD_WRONG),
            load_record_count(total, LOAD_UNAVAILABLE), load_record_count(total, LOAD_BROKEN));
    put_throughput(out, report);
    put_curve(out, &total->latency);
    put_percentiles(out, &total->latency);
    fprintf(out, "</html>\n");
}

bool load_page_write(const struct load_report *report, const struct load_options *options, const char *path)
{
    FILE *out = fopen(path, "we");
    if (out == NULL)
        return false;
    put_page(out, report, options);
    bool good = !ferror(out);
    return fclose(out) == 0 && good;
}
