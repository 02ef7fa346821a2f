#!/usr/bin/python3
"""bench_scrape: what it costs to look at numberd while it answers.

    build/release/bin/bench_scrape [--json] [--list] [--only NAME] [--n N] [--quick] [--bin DIR] [--dir DIR]

--list names the rows; --only NAME runs one, or all that begin with NAME_; --n N sets how many numbers are registered (5 million);
--quick ends within ten seconds, and its figures mean nothing; --json one object a line. One numberd with one worker is asked for
128 numbers a request by 4 connections with 8 requests under way, in pairs of rounds: left alone, and with /metrics read 100 times a
second, and as many times /stats.json. What a scrape costs is taken from the processor time of the threads: the main thread's, which
answers it, and by how much the worker's is more for each number, times the numbers of a round, over the scrapes in it. numberload
checks every answer, and each scrape must show the lookups. It takes about a minute."""
import re
import subprocess
import threading
import urllib.request

from bench_base import AT_MOST, Bench, Numberd, Others, check, load_round, main, thread_times

# name, unit, kind of bar, bar, about
ROWS = [
    ("worker_metrics", "ms", AT_MOST, 1, "of the worker's time for a scrape of /metrics, median of pairs of rounds"),
    ("worker_stats", "ms", AT_MOST, 1, "the same for /stats.json"),
    ("main_metrics", "ms", AT_MOST, 1, "of the main thread's time for a scrape of /metrics"),
    ("main_stats", "ms", AT_MOST, 1, "the same for /stats.json"),
    ("metrics_bytes", "bytes", None, None, "of /metrics"),
    ("others", "percent", None, None, "of the processors' time meanwhile, what no program of this benchmark used"),
]
PATHS = {"metrics": "/metrics", "stats": "/stats.json"}
PAUSE = 0.01


class Scrape(Bench):
    def __init__(self, options, folder):
        super().__init__(options, ROWS, folder)
        self.n = options.n or (200_000 if options.quick else 5_000_000)
        self.seconds, self.rounds = (1, 1) if options.quick else (2, 9)


class Scraper(threading.Thread):
    """Reads a page again and again until it is stopped."""

    def __init__(self, url):
        super().__init__()
        self.url, self.ended, self.scrapes, self.text, self.failure = url, threading.Event(), 0, "", None

    def run(self):
        try:
            while not self.ended.wait(PAUSE):
                with urllib.request.urlopen(self.url, timeout=10) as answer:
                    self.text = answer.read().decode()
                self.scrapes += 1
        except (OSError, UnicodeError) as error:
            self.failure = error

    def stop(self):
        self.ended.set()
        self.join()
        check(self.failure is None and self.scrapes > 10, f"scraping: {self.failure}, {self.scrapes} scrapes")
        check(re.search(r'(registered"?(: |\} ))[1-9]', self.text), "a scrape shows no lookups")


def measure(bench, server, url, kind):
    """The worker's ns a number, the main thread's ns, scrapes, numbers and the page's size; `kind` None: no scrapes."""
    scraper = None if kind is None else Scraper(url + PATHS[kind])
    main_thread, before, asked = str(server.process.pid), thread_times(server), server.stats()["lookups"]
    if scraper is not None:
        scraper.start()
    try:
        _, worker_ns = load_round(bench, server, server.address)
    finally:
        if scraper is not None:
            scraper.stop()
    numbers = sum(server.stats()["lookups"].values()) - sum(asked.values())
    return {"worker_ns": worker_ns, "main_ns": thread_times(server)[main_thread] - before[main_thread], "numbers": numbers,
            "scrapes": 0 if scraper is None else scraper.scrapes, "bytes": 0 if scraper is None else len(scraper.text)}


def report(bench, rounds, kind):
    more = [(each[kind]["worker_ns"] - each[None]["worker_ns"]) * each[kind]["numbers"] / each[kind]["scrapes"] / 1e6 for each in rounds]
    bench.report(f"worker_{kind}", bench.n, more)
    bench.report(f"main_{kind}", bench.n, [(each[kind]["main_ns"] - each[None]["main_ns"]) / each[kind]["scrapes"] / 1e6 for each in rounds])


def serve(bench):
    with subprocess.Popen([bench.bin / "numberload", "generate", "--count", str(bench.n)], stdout=subprocess.PIPE) as generate:
        bench.run("numberctl", "import", "-", "--data-dir", bench.folder / "data", stdin=generate.stdout)
    with Numberd(bench, bench.folder / "data", "--threads", "1") as server:
        check(server.numbers == bench.n, f"{server.numbers} numbers are registered")
        url = re.search(r"stats on (http://[0-9.:]+)/", server.read_log())[1]
        kinds = [None, *PATHS]
        for _ in range(bench.rounds):
            yield {kind: measure(bench, server, url, kind) for kind in kinds}
            kinds = kinds[1:] + kinds[:1]


def run(bench):
    others = Others()
    rounds = list(serve(bench))
    for kind in PATHS:
        report(bench, rounds, kind)
    bench.report("metrics_bytes", bench.n, [each["metrics"]["bytes"] for each in rounds])
    bench.report("others", bench.n, [others.percent()])


if __name__ == "__main__":
    raise SystemExit(main(__doc__, ROWS, Scrape, run, takes_size=True))
