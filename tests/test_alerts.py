"""Prometheus' alert rules and Grafana's dashboard: promtool finds them right, each alert fires when it should and not else, and the
metrics that they name exist."""
import json
import pathlib
import re
import subprocess

import servers
from certificates import Authority

HERE = pathlib.Path(__file__).resolve().parent
RULES = HERE.parent / "server" / "prometheus" / "alerts.yml"
PANELS = json.loads((RULES.parent / "dashboard.json").read_text())["panels"]
QUERIES = [target["expr"] for panel in PANELS for target in panel.get("targets", [])]


def promtool(*arguments, folder=HERE):
    result = subprocess.run(["promtool", *map(str, arguments)], capture_output=True, text=True, timeout=120, cwd=folder)
    assert result.returncode == 0, result.stdout + result.stderr


def test_rules():
    """promtool reads them."""
    promtool("check", "rules", RULES)


def test_firing():
    """Made-up histories: nothing fires when all is well, each alert when its promise is broken."""
    with servers.temporary_folder() as folder:
        (folder / "alerts.yml").write_text(RULES.read_text())
        (folder / "alerts.test.yml").write_text((HERE / "alerts.test.yml").read_text())
        promtool("test", "rules", "alerts.test.yml", folder=folder)


def test_each_is_tried():
    """No alert without a history in which it fires."""
    names = re.findall(r"- alert: (\w+)", RULES.read_text())
    tried = (HERE / "alerts.test.yml").read_text()
    assert len(names) >= 13 and all(f'alertname="{name}"' in tried for name in names), names


def test_dashboard():
    """Each query is one that Prometheus understands, each panel says what it shows, and none lies on another."""
    with servers.temporary_folder() as folder:
        rules = [{"record": f"query:{i}", "expr": query.replace("$__rate_interval", "5m")} for i, query in enumerate(QUERIES)]
        (folder / "queries.json").write_text(json.dumps({"groups": [{"name": "dashboard", "rules": rules}]}))  # JSON is YAML, too
        promtool("check", "rules", folder / "queries.json")
    assert len({panel["id"] for panel in PANELS}) == len(PANELS) > 20
    taken = set()
    for panel in PANELS:
        place = panel["gridPos"]
        squares = {(x, y) for x in range(place["x"], place["x"] + place["w"]) for y in range(place["y"], place["y"] + place["h"])}
        assert not taken & squares and max(x for x, _ in squares) < 24, panel["title"]
        taken |= squares
        assert panel["type"] == "row" or (panel["description"].endswith(".") and panel["targets"]), panel["title"]


def test_metrics_exist():
    """numberd has every metric that a rule or a query names; and no alert is about what the dashboard does not show."""
    alerts = set(re.findall(r"\bnumberd_\w+", re.sub(r"#.*", "", RULES.read_text())))
    shown = set(re.findall(r"\bnumberd_\w+", " ".join(QUERIES)))
    with servers.temporary_folder() as folder:
        certificate, key = Authority(folder).sign("server")
        with servers.Redis() as redis, \
                servers.Numberd(folder / "data", "--tls-listen", "127.0.0.1:0", "--tls-certificate", certificate, "--tls-key", key,
                                "--redis", f"redis://127.0.0.1:{servers.free_port()}/0", "--registrations", redis.url) as server:
            have = set(re.findall(r"^(numberd_\w+)", server.get("/metrics"), re.M))
    assert len(alerts) > 12 and alerts <= have, alerts - have
    if "numberd_allocator_allocated_bytes" not in have:  # a build without jemalloc
        shown -= {"numberd_allocator_allocated_bytes"}
    assert len(shown) > 30 and shown <= have, shown - have
    assert alerts <= shown | {"numberd_registrations_position", "numberd_snapshot_failed", "numberd_query_log_accepting"}, alerts - shown


if __name__ == "__main__":
    servers.run_tests(globals())
