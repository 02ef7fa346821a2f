/* The pace of catching up; see feed_pace.h. */
#include "persist/registrations/feed_pace.h"

void feed_pace_begin(struct feed_pace *pace, unsigned percent, unsigned most_max, uint64_t now_ms)
{
    *pace = (struct feed_pace){
        .percent = percent, .ends_ms = now_ms + FEED_PACE_MS, .most = 1, .most_max = most_max};
    if (percent >= 100)
        feed_pace_end(pace);
}

unsigned feed_pace_rest(struct feed_pace *pace, uint64_t worked_us, uint64_t now_ms)
{
    if (now_ms >= pace->ends_ms) {
        feed_pace_end(pace);
        return 0;
    }
    if (worked_us > FEED_PACE_ROUND_US && pace->most > 1)
        pace->most /= 2;
    else if (worked_us < FEED_PACE_ROUND_US / 2 && pace->most < pace->most_max)
        pace->most = pace->most < pace->most_max / 2 ? pace->most * 2 : pace->most_max;
    uint64_t rest_ms = worked_us * (100 - pace->percent) / pace->percent / 1000;
    return rest_ms < FEED_PACE_REST_MS_MAX ? (unsigned)rest_ms : FEED_PACE_REST_MS_MAX;
}

void feed_pace_end(struct feed_pace *pace)
{
    pace->ends_ms = 0;
    pace->most = pace->most_max;
}
