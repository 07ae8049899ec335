"""An API with a domain, for callers with an issuer's tokens and pages of one origin: what the gateway lets through."""

import time
from collections.abc import Iterator
from contextlib import ExitStack

import httpx
import pytest
from account import Account
from codedeploy import CodeDeploy
from deployed import BODY, PATH, Environment, digits
from issuer import Issuer, issuing

AUDIENCE, ORIGIN, DOMAIN = "predictions", "https://app.example", "predictions.example.com"


@pytest.fixture(scope="module")
def issuer() -> Iterator[Issuer]:
    with issuing() as issuer:
        yield issuer


@pytest.fixture(scope="module")
def url(
    account: Account, codedeploy: CodeDeploy, issuer: Issuer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[str]:
    """Of the model's predictions, at the address to which the domain's name leads here."""
    zone = account.client("route53").create_hosted_zone(Name="example.com", CallerReference="tests")["HostedZone"]
    context = {
        "project": "tokens",
        "domain": DOMAIN,
        "certificate": account.client("acm").request_certificate(DomainName=DOMAIN)["CertificateArn"],
        "hosted_zone": zone["Id"].rpartition("/")[2],
        "authorization": "jwt",
        "jwt_issuer": issuer.url,
        "jwt_audience": AUDIENCE,
        "environments": {"dev": {"settings": {"DEFAULT_MODEL": "digits", "CORS_ORIGINS": ORIGIN}}},
    }
    with ExitStack() as emulators:
        folder = tmp_path_factory.mktemp("deployed")
        environment = Environment(account, codedeploy, folder, emulators, stack="tokens-dev")
        status, said = environment.deploy(digits(tmp_path_factory.mktemp("models"), 1), context)
        assert status == 0, said
        _name_origins(environment)
        assert environment.outputs["Endpoint"] == f"https://{DOMAIN}"
        yield f"{account.endpoint}{PATH}"
        status, said = environment.destroy()
        assert status == 0, said


def _name_origins(environment: Environment) -> None:
    """What the template says of CORS, once more: MiniStack's CloudFormation writes it where its gateway looks for
    other names.
    """
    client = environment.account.client("apigatewayv2")
    [api] = [item for item in client.get_apis()["Items"] if item["Name"] == environment.stack]
    [said] = environment.assembly.resources("AWS::ApiGatewayV2::Api").values()
    client.update_api(ApiId=api["ApiId"], CorsConfiguration=said["Properties"]["CorsConfiguration"])


def ask(url: str, token: str = "", method: str = "POST", **headers: str) -> httpx.Response:
    given = {"host": DOMAIN} | {name.replace("_", "-"): value for name, value in headers.items()}
    if token:
        given["authorization"] = f"Bearer {token}"
    return httpx.request(method, url, content=BODY, headers=given, timeout=60, trust_env=False)


@pytest.mark.usefixtures("url")
def test_a_domain_of_one_s_own(account: Account) -> None:
    """That the gateway knows whose it is, the other tests show."""
    client = account.client("route53")
    [zone] = client.list_hosted_zones_by_name(DNSName="example.com")["HostedZones"]
    records = client.list_resource_record_sets(HostedZoneId=zone["Id"])["ResourceRecordSets"]
    [alias] = [record["AliasTarget"]["DNSName"] for record in records if record["Name"] == f"{DOMAIN}."]
    assert ".execute-api." in alias


def said(answer: httpx.Response, header: str) -> set[str]:
    return {value.strip() for line in answer.headers.get_list(header) for value in line.split(",")}


def test_a_token_of_the_issuer(url: str, issuer: Issuer) -> None:
    answer = ask(url, issuer.token(AUDIENCE))
    assert (answer.status_code, answer.json()["outputs"][0]["data"]) == (200, [7])


@pytest.mark.parametrize("wrong", ["none", "no token", "forged", "audience", "expired", "issuer", "not yet"])
def test_other_tokens(url: str, issuer: Issuer, wrong: str) -> None:
    tokens = {
        "none": "",
        "no token": "abc",
        "forged": issuer.forged(AUDIENCE),
        "audience": issuer.token("other"),
        "expired": issuer.token(AUDIENCE, seconds=-1),
        "issuer": issuer.token(AUDIENCE, iss="https://issuer.example"),
        "not yet": issuer.token(AUDIENCE, nbf=int(time.time()) + 60),
    }
    assert ask(url, tokens[wrong]).status_code == 401


def test_a_page_of_the_origin(url: str, issuer: Issuer) -> None:
    """Its browser asks first, without a token, and shows the page the headers of the protocol."""
    asked = {"access_control_request_method": "POST", "access_control_request_headers": "authorization"}
    preflight = ask(url, method="OPTIONS", origin=ORIGIN, **asked)
    assert (preflight.status_code // 100, preflight.headers["access-control-allow-origin"]) == (2, ORIGIN)
    assert said(preflight, "access-control-allow-methods") == {"GET", "POST", "OPTIONS"}
    assert said(preflight, "access-control-allow-headers") == {"*"}
    answer = ask(url, issuer.token(AUDIENCE), origin=ORIGIN)
    # The function says so too; API Gateway drops that, MiniStack sends both.
    assert (answer.status_code, said(answer, "access-control-allow-origin")) == (200, {ORIGIN})
    assert said(answer, "access-control-expose-headers") >= {"Inference-Header-Content-Length", "X-Request-Id"}


def test_a_page_of_another_origin(url: str, issuer: Issuer) -> None:
    other = "https://other.example"
    preflight = ask(url, method="OPTIONS", origin=other, access_control_request_method="POST")
    answer = ask(url, issuer.token(AUDIENCE), origin=other)
    assert "access-control-allow-origin" not in preflight.headers.keys() | answer.headers.keys()
