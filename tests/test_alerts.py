"""The alert rules: promtool finds them right, each fires when it should and not else, and the metrics that they name exist."""
import pathlib
import re
import subprocess

import servers
from certificates import Authority

HERE = pathlib.Path(__file__).resolve().parent
RULES = HERE.parent / "server" / "prometheus" / "alerts.yml"


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


def test_metrics_exist():
    """numberd has every metric that a rule names."""
    wanted = set(re.findall(r"\bnumberd_\w+", re.sub(r"#.*", "", RULES.read_text())))
    with servers.temporary_folder() as folder:
        certificate, key = Authority(folder).sign("server")
        with servers.Numberd(folder / "data", "--tls-listen", "127.0.0.1:0", "--tls-certificate", certificate, "--tls-key", key) as server:
            have = set(re.findall(r"^(numberd_\w+)", server.get("/metrics"), re.M))
    assert len(wanted) > 12 and wanted <= have, wanted - have


if __name__ == "__main__":
    servers.run_tests(globals())
