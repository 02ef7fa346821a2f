"""The page at the stats port, in a headless Chromium: its figures, what it says when something is wrong, and that it fits."""
import contextlib
import json
import os
import pathlib
import subprocess
import time

from selenium import webdriver
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

import servers
from client import *  # noqa: F403 -- the protocol's names

BASE = 4915112000000
SHOTS = os.environ.get("NUMBERD_SCREENSHOTS")  # a folder, to look at what it looks like


@contextlib.contextmanager
def browser(width=1200, height=1400, dark=False):
    options = webdriver.ChromeOptions()
    with servers.temporary_folder() as profile:
        # In a container there is no sandbox to be had, nor much shared memory; what is opened is our own page.
        for argument in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu", "--no-first-run",
                         f"--user-data-dir={profile}", f"--window-size={width},{height}"):
            options.add_argument(argument)
        options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
        driver = webdriver.Chrome(service=Service("/usr/bin/chromedriver"), options=options)
        try:
            driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride",
                                   {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600})
            driver.execute_cdp_cmd("Emulation.setEmulatedMedia",
                                   {"features": [{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}]})
            yield driver
        finally:
            driver.quit()


def values(driver):
    """What each tile stands for, as in stats.json."""
    found = driver.execute_script("return [...document.querySelectorAll('#tiles > div')].map(tile => [tile.id.slice(5), tile.dataset.value])")
    return {name: json.loads(value) for name, value in found if value is not None}


def text(driver, selector):
    return driver.execute_script("return document.querySelector(arguments[0])?.textContent ?? ''", selector)


def shoot(driver, name):
    if SHOTS:
        driver.save_screenshot(str(pathlib.Path(SHOTS) / f"{name}.png"))


def complaints(driver):
    """What the browser had against the page: scripts that failed, what the policy forbade. A server that was stopped is none."""
    return [entry["message"] for entry in driver.get_log("browser") if "ERR_CONNECTION_REFUSED" not in entry["message"]]


def test_figures_and_faults():
    """The figures are those of stats.json; a Redis that stops turns its tile red within five seconds, and back."""
    with servers.temporary_folder() as folder, servers.Redis() as redis, \
            servers.Numberd(folder / "data", "--redis", redis.url) as server, browser() as driver:
        with Client(server.port) as client:
            client.register((BASE, 1, 0), (BASE + 1, 2, 0))
            client.lookup([BASE, BASE + 5, 5])
            servers.wait_until(lambda: server.stats()["query_log"]["stored"] == 3, "the events are stored")
            driver.get(f"http://127.0.0.1:{server.stats_port}/")
            servers.wait_until(lambda: values(driver).get("stored") == 3, "the figures are there")
            stats, shown = server.stats(), values(driver)
            assert shown["registered"] == stats["directory"]["registered"] == 2
            assert shown["connections"] == stats["connections_open"] == 1
            assert (shown["stored"], shown["in_flight"], shown["lost"]) == (3, 0, 0) and shown["ready"] is True
            assert shown["limited"] == stats["lookups"]["limited"] and shown["journal"] is False
            assert text(driver, "#tile-registered dd") == "2" and text(driver, "#version") == stats["version"]
            # This Redis persists nothing, which is worth a complaint; nothing else is.
            assert driver.execute_script("return [...document.querySelectorAll('#tiles > .wrong')].map(tile => tile.id)") == ["tile-redis"]
            assert "appendonly" in text(driver, "#complaints")
            for _ in range(3000):
                client.lookup([BASE, BASE + 5] * 50)
            servers.wait_until(lambda: driver.execute_script("return charts[0].chart.data.datasets[0].data.some(value => value > 1000)"),
                               "the chart shows the lookups")
            assert "registered" in driver.execute_script("return document.querySelector('canvas').getAttribute('aria-label')")
            shoot(driver, "light")
        redis.stop()
        stopped = time.monotonic()
        servers.wait_until(lambda: text(driver, "#tile-redis dd") == "away", "the tile says so")
        assert time.monotonic() - stopped < 5
        assert driver.execute_script("return document.getElementById('tile-redis').className") == "wrong"
        assert "Redis: away. Redis does not take the query log" in text(driver, "#complaints"), text(driver, "#complaints")
        assert text(driver, "#state") == "something is wrong"
        shoot(driver, "redis-away")
        redis.start()
        servers.wait_until(lambda: text(driver, "#tile-redis dd") == "connected", "it is back")
        assert complaints(driver) == [], complaints(driver)


def test_it_fits():
    """On a phone and on a desk, light and dark: nothing is cut off, and nothing comes from elsewhere."""
    with servers.temporary_folder() as folder, servers.Numberd(folder / "data") as server:
        for name, width, dark in (("phone", 360, False), ("phone-dark", 360, True), ("dark", 1200, True)):
            with browser(width, 900, dark) as driver:
                driver.get(f"http://127.0.0.1:{server.stats_port}/")
                servers.wait_until(lambda: len(values(driver)) > 10, "the tiles are there")
                time.sleep(2.5)
                wide = driver.execute_script("return [document.documentElement.scrollWidth, innerWidth]")
                assert wide[0] <= wide[1] == width, wide
                cut = driver.execute_script("return [...document.querySelectorAll('dd,dt,h1,figcaption')].filter(e => e.scrollWidth > e.clientWidth + 1)"
                                            ".map(e => e.textContent)")
                assert cut == [], cut
                back = driver.execute_script("return getComputedStyle(document.body).backgroundColor")
                assert back == ("rgb(13, 17, 23)" if dark else "rgb(250, 250, 250)"), back
                origins = driver.execute_script("return performance.getEntriesByType('resource').map(entry => new URL(entry.name).origin)")
                assert set(origins) == {f"http://127.0.0.1:{server.stats_port}"}, origins
                assert text(driver, "#state") == "all is well" and complaints(driver) == []
                shoot(driver, name)


def test_keyboard():
    """The links are reached by the tabulator, in their order; what is wrong is announced."""
    with servers.temporary_folder() as folder, servers.Numberd(folder / "data") as server, browser() as driver:
        driver.get(f"http://127.0.0.1:{server.stats_port}/")
        servers.wait_until(lambda: len(values(driver)) > 10, "the tiles are there")
        reached = []
        for _ in range(4):
            driver.switch_to.active_element.send_keys(Keys.TAB)
            reached.append(driver.switch_to.active_element.text)
        assert reached == ["stats.json", "shards.json", "metrics", "readyz"], reached
        assert driver.find_element(By.ID, "complaints").get_attribute("aria-live") == "assertive"


def test_a_server_that_is_gone():
    """It says so, and what to do; the figures stay."""
    with servers.temporary_folder() as folder, browser() as driver:
        with servers.Numberd(folder / "data") as server:
            driver.get(f"http://127.0.0.1:{server.stats_port}/")
            servers.wait_until(lambda: len(values(driver)) > 10, "the tiles are there")
        servers.wait_until(lambda: text(driver, "#state") == "no answer", "it says so")
        assert "see whether it runs" in text(driver, "#complaints") and len(values(driver)) > 10


def test_page_of_a_load():
    """What numberload --page writes: two charts with a line each, nothing cut off on a phone, nothing to complain about."""
    with servers.temporary_folder() as folder, servers.Numberd(folder / "data") as server:
        command = [servers.BIN / "numberload", "run", "--server", server.address, "--hit-ratio", "0", "--seconds", "5", "--page", folder / "load.html"]
        subprocess.run([str(word) for word in command], check=True, capture_output=True, timeout=60)
        for width, dark in ((900, False), (360, True)):
            with browser(width, 1500, dark) as driver:
                driver.get((folder / "load.html").as_uri())
                shoot(driver, f"load-{width}")
                lengths = driver.execute_script("return [...document.querySelectorAll('svg path')].map(path => path.getTotalLength())")
                assert len(lengths) == 2 and all(length > 300 for length in lengths), lengths
                inside = driver.execute_script("return [...document.querySelectorAll('svg path')].map(path => path.getBBox()).every(box => "
                                               "box.x >= 75 && box.y >= 15 && box.x + box.width <= 705 && box.y + box.height <= 233)")
                assert inside, driver.page_source
                assert driver.execute_script("return document.documentElement.scrollWidth <= innerWidth")
                assert "numbers" in text(driver, "table") and not complaints(driver), complaints(driver)


if __name__ == "__main__":
    servers.run_tests(globals())
