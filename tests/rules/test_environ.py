"""What of the environment reaches the libraries that we use."""

import ast
from pathlib import Path

from pynchy.config.environ import CERTIFICATES, PROXIES, for_whatsapp, unused

ROOT = Path(__file__).parents[2]


def test_the_whatsapp_process_has_the_proxy_of_our_settings_and_no_other() -> None:
    around = dict.fromkeys([*PROXIES, *CERTIFICATES, "NO_PROXY", "GODEBUG", "MAGIC", "SPHINX"], "x")
    kept = for_whatsapp({**around, "PATH": "/bin", "HF_HOME": "/models"}, proxy="", ca_file=None)
    ours = {"SSL_CERT_FILE": "", "NEONIZE_BOT_TAG": "off"}  # empty is unset, and can be replaced
    assert kept == {"PATH": "/bin", "HF_HOME": "/models", **ours}
    kept = for_whatsapp(around, proxy="http://proxy:3128", ca_file=Path("/etc/ca.pem"))
    assert kept == {
        "HTTPS_PROXY": "http://proxy:3128",
        "HTTP_PROXY": "http://proxy:3128",
        "SSL_CERT_FILE": "/etc/ca.pem",
        "NEONIZE_BOT_TAG": "off",
    }

    kept = for_whatsapp(
        {"NO_PROXY": "x"}, proxy="http://proxy:3128", ca_file=None, no_proxy=("a.org", "10.0.0.0/8")
    )
    assert kept["NO_PROXY"] == "a.org,10.0.0.0/8"


def test_the_key_of_the_model_is_not_whatsapps_business() -> None:
    around = {"ANTHROPIC_API_KEY": "k", "CLAUDE_CODE_OAUTH_TOKEN": "t"}
    kept = for_whatsapp(around, proxy="", ca_file=None)
    assert kept == {"SSL_CERT_FILE": "", "NEONIZE_BOT_TAG": "off"}


def test_what_is_set_and_not_used_can_be_named() -> None:
    assert unused({"all_proxy": "socks://x", "NO_PROXY": "x", "PATH": "x"}) == (["all_proxy"], [])
    assert unused({"SSL_CERT_FILE": "/x", "HTTP_PROXY": ""}) == ([], ["SSL_CERT_FILE"])


def test_every_http_client_is_told_not_to_look() -> None:
    made = [
        (path, node)
        for path in (ROOT / "pynchy").rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr in ("Client", "AsyncClient", "create_ssl_context")
        and isinstance(node.func.value, ast.Name)
        and node.func.value.id == "httpx"
    ]
    assert made
    for path, node in made:
        told = {each.arg: each.value for each in node.keywords}
        value = told.get("trust_env")
        assert isinstance(value, ast.Constant), path
        assert value.value is False, path
