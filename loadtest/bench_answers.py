#!/usr/bin/python3
"""bench_answers: whether the time or the size of an answer tells hits, misses and hidden accounts apart.

    build/release/bin/bench_answers [--json] [--list] [--only NAME] [--n N] [--quick] [--bin DIR] [--dir DIR]

--list names the rows; --only NAME runs one, or all that begin with NAME_; --n N sets how many numbers are registered (20 million,
of which 10 million lookups come); --quick ends within half a minute, and its times mean nothing; --json one object a line.

The attacker. It asks one numberd with one worker, over loopback, about one number after the other, and takes the time of each round
trip: nobody in a network sees more than that. A sixth of the numbers is hidden; the lookups are as many hits, misses (neighbours of
registered numbers) and hidden accounts, none asked twice, so that each finds its memory cold. By pairs of classes it compares the
two distributions by Kolmogorov-Smirnov's distance, by Mann-Whitney's ranks and by the means of the faster halves.

The noise. Which class each lookup has was drawn by chance. If the class made no difference, the same times would have been seen had
the draw come out otherwise; so the noise of a statistic is the most that it is in 899 random deals of the same times to two samples,
each a comparison of like with like. That holds however the times are spread, and however the machine's moods last, which the
formulas for these tests do not. A statistic of like classes is above its noise once in 900 runs, and any of the nine once in 100:
that is the bar, a row *_over_noise of at most 1 (the worst of the pair's three). What a run could have seen is its noise_shift.

The rows alike_*, lone_* and batch_* call the table itself, without a server: directory_lookup_alike, which answers requests of one
number, directory_lookup of one number, and of 128 of one class. They see tenths of ns, and have no bars: hits in batches do take
longer than misses, since more of them read a second line, and who asks is told which they are. It takes about 6 minutes."""
from bench_base import AT_MOST, Bench, Numberd, Others, check, main

PAIRS = {"hidden_miss": "hidden accounts and misses", "hit_miss": "hits and misses", "hidden_hit": "hidden accounts and hits"}
MANNERS = {"alike": "a number by directory_lookup_alike", "lone": "a number by directory_lookup", "batch": "one of 128"}
# name, unit, kind of bar, bar, about
ROWS = [
    ("frames_hidden_miss", "bytes", AT_MOST, 0, "by which replies to hidden accounts and to misses differ, in 500 of each type"),
    ("frames_hit_miss", "bytes", AT_MOST, 0, "the same of hits and misses, but for status and record"),
    *((f"wire_{pair}_over_noise", "ratio", AT_MOST, 1, f"how {about} differ in time, over what chance does") for pair, about in PAIRS.items()),
    *((f"wire_{pair}_{name}", unit, None, None, f"{about}: {what}") for pair, about in PAIRS.items()
      for name, unit, what in (("shift", "ns", "difference of the means of the faster halves"), ("shift_noise", "ns", "the same by chance"),
                               ("ranks", "deviations", "Mann-Whitney"), ("distance", "ratio", "Kolmogorov-Smirnov"))),
    ("wire_miss", "ns", None, None, "mean of the faster half of the round trips of misses"),
    *((f"{manner}_{name}", "ns", None, None, f"{what}, without a server: {about}") for manner, what in MANNERS.items()
      for name, about in (("miss", "a miss"), ("hidden_miss_shift", "what hidden accounts take more"),
                          ("hit_miss_shift", "what hits take more"), ("hidden_miss_shift_noise", "what chance makes of it"))),
    ("others", "percent", None, None, "of the processors' time meanwhile, what no program of this benchmark used"),
]


class Answers(Bench):
    def __init__(self, options, folder):
        super().__init__(options, ROWS, folder)
        self.n = options.n or (200_000 if options.quick else 20_000_000)
        check(self.n >= 6000, "--n must be 6,000 at least")

    def measure(self, *arguments):
        """Runs answer_times, and reports those of its figures that have rows."""
        names = {row[0] for row in self.rows}
        for line in self.run("answer_times", *arguments).splitlines():
            name, value = line.split()
            if name in names:
                self.report(name, self.n, [float(value)])


def measure(bench):
    others = Others()
    if bench.wants(*(row[0] for row in ROWS if row[0].startswith(("frames", "wire")))):
        # Snapshots by themselves, and waiting for the disk, would only add noise.
        with Numberd(bench, bench.folder / "data", "--threads", "1", "--durability", "off", "--snapshot-minutes", "0",
                     "--journal-bytes", "0") as server:
            bench.measure("wire", bench.n, server.address)
    if bench.wants(*(row[0] for row in ROWS if row[0].startswith(tuple(MANNERS)))):
        bench.measure("table", bench.n)
    bench.report("others", bench.n, [others.percent()])


if __name__ == "__main__":
    raise SystemExit(main(__doc__, ROWS, Answers, measure, takes_size=True))
