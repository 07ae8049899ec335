"""Every pair of values of the props is in a stack, and neither linters nor rules of permissions find fault with it."""

import fnmatch
import json
import re
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import fields
from itertools import combinations, product
from typing import Any

import pytest
from assemblies import ROOT, Assembly, sources, synthesise
from combinations import ALLOWED, KEY, TOPIC, VALUES, contexts, rows
from linting import lint
from permissions import denied
from resolved import ACCOUNT, PSEUDO, REGION
from stacks import Stack

from cdk.props import InvalidProps, Props

Pair = tuple[tuple[str, int], tuple[str, int]]
PROVIDER = "AWS::Lambda::CapacityProvider"
# Their values make other resources, all of them.
COMPLETE = ("architecture", "start", "models", "authorization", "api")


def test_every_prop_is_at_its_default_and_at_another_value() -> None:
    defaults = {item.name: item.default for item in fields(Props)}
    assert list(VALUES) == list(defaults)
    found = {prop: getattr(Props.from_context(_alone(prop).get), prop) for prop in VALUES if prop != "settings"}
    assert found == {prop: value for prop, value in defaults.items() if prop != "settings"}
    assert {prop for prop, values in VALUES.items() if len(values) < 2} == set()
    choices = {item.name: item.metadata.get("choices", ()) for item in fields(Props)}
    assert {prop: VALUES[prop] for prop in COMPLETE} == {prop: choices[prop] for prop in COMPLETE}


def _alone(prop: str) -> dict[str, Any]:
    return {"environments": {"dev": {}}, prop: VALUES[prop][0]}


def test_every_pair_that_the_props_allow_is_in_a_stack() -> None:
    made = {pair for row in rows() for pair in _pairs({prop: VALUES[prop].index(row[prop]) for prop in VALUES})}
    missing = set(_pairs_of_all()) - made
    assert missing == {pair for pair in missing if any({prop for prop, _ in pair} <= group for group in _tied())}
    assert missing & _possible() == set()


def _pairs(row: Mapping[str, int]) -> Iterator[Pair]:
    yield from combinations(row.items(), 2)


def _pairs_of_all() -> Iterator[Pair]:
    for one, other in combinations(VALUES, 2):
        for first, second in product(range(len(VALUES[one])), range(len(VALUES[other]))):
            yield (one, first), (other, second)


def _tied() -> list[set[str]]:
    """The props that depend on each other, also by way of others."""
    groups: list[set[str]] = []
    for pair in map(set, ALLOWED):
        joined = [group for group in groups if group & pair]
        groups = [group for group in groups if group not in joined] + [pair.union(*joined)]
    return groups


def _possible() -> set[Pair]:
    """The pairs of the props that depend on each other that are in any props that can be."""
    found: set[Pair] = set()
    for group in _tied():
        props = [prop for prop in VALUES if prop in group]
        for indices in product(*(range(len(VALUES[prop])) for prop in props)):
            row = dict(zip(props, indices, strict=True))
            context = {prop: VALUES[prop][index] for prop, index in row.items()}
            if _is_valid({"environments": {"dev": {}}, **context}):
                found.update(_pairs(row))
    return found


def _is_valid(context: Mapping[str, Any]) -> bool:
    try:
        Props.from_context(context.get)
    except InvalidProps:
        return False
    return True


@pytest.fixture(scope="module")
def stacks(tmp_path_factory: pytest.TempPathFactory) -> list[Assembly]:
    """All of them, synthesised in this process."""
    folder = tmp_path_factory.mktemp("combinations")
    source = sources(folder / "source")
    (source / "more").mkdir()
    shutil.move(source / "models" / "diabetes", source / "more")
    shutil.copytree(source / "models", source / VALUES["model_path"][1])
    return [synthesise(context, folder / str(number), source) for number, context in enumerate(contexts())]


def test_no_finding_is_open(stacks: list[Assembly]) -> None:
    reports = [json.loads((stack.folder / "validation-report.json").read_text()) for stack in stacks]
    assert [report["pluginReports"] for report in reports] == [[] for _ in stacks]


def test_cfn_lint(stacks: list[Assembly]) -> None:
    assert lint(stack.template_file for stack in stacks) == ""


def key_policy() -> dict[str, Any]:
    """That of docs/deploy-aws.md for a key of one's own, less the context of encryption, which the simulator drops."""
    policy = written_policy()
    for statement in policy["Statement"]:
        if "ArnLike" in statement.get("Condition", {}):
            del statement["Condition"]
    return policy


def written_policy() -> dict[str, Any]:
    text = (ROOT / "docs/deploy-aws.md").read_text()
    [found] = [block for block in re.findall("```json\n(.*?)```", text, re.DOTALL) if "kms:EncryptionContext" in block]
    policy: dict[str, Any] = json.loads(found.replace("ACCOUNT", ACCOUNT).replace("REGION", REGION))
    return policy


def others(policy: dict[str, Any]) -> dict[str, Any]:
    """The policies of what isn't the stack's own: a key, and a topic that lets in what the docs name."""
    services = {"Service": ["cloudwatch.amazonaws.com", "budgets.amazonaws.com"]}
    statement = {"Effect": "Allow", "Principal": services, "Action": "sns:Publish", "Resource": TOPIC}
    return {KEY: policy, TOPIC: {"Version": policy["Version"], "Statement": [statement]}}


def test_permissions(stacks: list[Assembly]) -> None:
    assert denied((stack.template for stack in stacks), others(key_policy())) == [[] for _ in stacks]


def test_a_key_serves_the_log_groups_of_the_account(stacks: list[Assembly]) -> None:
    """Their ARNs are the encryption context that the key's policy asks for."""
    [(condition, pattern)] = [
        found
        for statement in written_policy()["Statement"]
        for found in statement.get("Condition", {}).get("ArnLike", {}).items()
    ]
    assert condition == "kms:EncryptionContext:aws:logs:arn"
    groups = [
        group.removesuffix(":*") for stack in stacks for group, _ in Stack(stack.template).of("AWS::Logs::LogGroup")
    ]
    assert groups
    assert fnmatch.filter(groups, pattern) == groups


def test_each_statement_of_the_keys_policy_is_needed(stacks: list[Assembly]) -> None:
    templates = [stack.template for stack in stacks if KEY in json.dumps(stack.template)]
    statements = key_policy()["Statement"]
    for left_out in statements:
        policy = {**key_policy(), "Statement": [statement for statement in statements if statement != left_out]}
        refused = [text for found in denied(templates, others(policy)) for text in found]
        assert refused
        assert all("kms:" in text for text in refused)


def test_what_a_key_of_ones_own_encrypts(stacks: list[Assembly]) -> None:
    """Everything that can be, and nothing where there is none."""
    for stack, context in zip(stacks, contexts(), strict=True):
        found = {name: _key_of(item) for name, item in stack.resources().items() if _stores(name, item)}
        assert found == dict.fromkeys(found, context["kms_key"] or None)


_KEYS = {
    "AWS::S3::Bucket": "BucketEncryption",
    "AWS::SQS::Queue": "KmsMasterKeyId",
    "AWS::SNS::Topic": "KmsMasterKeyId",
    "AWS::Logs::LogGroup": "KmsKeyId",
    "AWS::SecretsManager::Secret": "KmsKeyId",
    "AWS::Lambda::Function": "KmsKeyArn",
}


def _stores(name: str, item: Mapping[str, Any]) -> bool:
    # The CDK's own function, which empties buckets, has nothing in its environment.
    return item["Type"] in _KEYS and not name.startswith("CustomS3AutoDeleteObjects")


def _key_of(item: Mapping[str, Any]) -> Any:
    given = item["Properties"]
    if item["Type"] == "AWS::SQS::Queue":
        assert ("SqsManagedSseEnabled" in given) != ("KmsMasterKeyId" in given)
    if item["Type"] == "AWS::S3::Bucket":
        [rule] = given["BucketEncryption"]["ServerSideEncryptionConfiguration"]
        return rule["ServerSideEncryptionByDefault"].get("KMSMasterKeyID")
    return given.get(_KEYS[item["Type"]])


def test_tags_of_ones_own(stacks: list[Assembly]) -> None:
    for stack, context in zip(stacks, contexts(), strict=True):
        given = dict(tag.split("=") for tag in filter(None, context["tags"].split(",")))
        for name, item in stack.resources().items():
            tags = item.get("Properties", {}).get("Tags")
            if tags and not name.startswith("CustomS3AutoDeleteObjects"):
                pairs = tags if isinstance(tags, dict) else {tag["Key"]: tag["Value"] for tag in tags}
                assert {tag: pairs.get(tag) for tag in ("team", "cost-centre")} == {
                    "team": None,
                    "cost-centre": None,
                } | given


def test_every_role_has_the_boundary(stacks: list[Assembly]) -> None:
    for stack, context in zip(stacks, contexts(), strict=True):
        roles = stack.resources("AWS::IAM::Role")
        found = {name: item["Properties"].get("PermissionsBoundary") for name, item in roles.items()}
        assert found == dict.fromkeys(found, context["permissions_boundary"] or None)


def test_what_is_not_the_stacks_own(stacks: list[Assembly]) -> None:
    """A bucket, a topic and an image that there are already, and log groups by their names."""
    for stack, context in zip(stacks, contexts(), strict=True):
        buckets = [name for name in stack.resources("AWS::S3::Bucket") if name.startswith("Models")]
        assert len(buckets) == (context["models"] == "bucket" and not context["model_bucket"])
        if bucket := context["model_bucket"]:
            variables = stack.only("AWS::Lambda::Function", "FunctionHandler")["Environment"]["Variables"]
            assert variables["MODEL_PATH"] == f"s3://{bucket}/models"
        if topic := context["alarm_topic"]:
            actions = [
                item["Properties"]["AlarmActions"] for item in stack.resources("AWS::CloudWatch::Alarm").values()
            ]
            assert actions == [[topic]] * len(actions)
        assert len(stack.resources("AWS::SNS::Topic")) == (not context["alarm_topic"])
        if image := context["image"]:
            functions = stack.resources("AWS::Lambda::Function").values()
            found = [
                given["Code"]["ImageUri"]
                for given in (item["Properties"] for item in functions)
                if "PackageType" in given
            ]
            assert found
            account, _, rest = image.partition(".dkr.ecr.")
            assert {_text(uri) for uri in found} == {f"{account}.dkr.ecr.{rest}"}
        names = {
            name: item["Properties"].get("LogGroupName")
            for name, item in stack.resources("AWS::Logs::LogGroup").items()
        }
        delivered = {name for name in names if name.startswith(("ApiAccessLogs", "BatchRunsLogs"))}
        named = {name for name, value in names.items() if value}
        assert named == (delivered if context["vended_logs"] else set())
        place = f"/aws/vendedlogs/{context['project']}-{context['environment']}/"
        assert {names[name].startswith(place) for name in named} <= {True}


def test_networks(stacks: list[Assembly]) -> None:
    """Functions are in the VPC, all or none; the API is of its kind, with the WAF."""
    for stack, context in zip(stacks, contexts(), strict=True):
        functions = {
            name: item["Properties"].get("VpcConfig", {})
            for name, item in stack.resources("AWS::Lambda::Function").items()
            if not name.startswith("CustomS3AutoDeleteObjects")
        }
        if context["instances"]:
            # These are in the network of their instances.
            places = [item["Properties"]["VpcConfig"] for item in stack.resources(PROVIDER).values()]
            assert len(places) == 1 + len(context["functions"])
            on_them = [name for name in functions if "FunctionHandler" in name]
            functions |= dict(zip(on_them, places, strict=True))
        subnets = context["subnets"].split(",") if context["vpc"] else None
        assert {name: given.get("SubnetIds") for name, given in functions.items()} == dict.fromkeys(functions, subnets)
        groups = {json.dumps(given.get("SecurityGroupIds")) for given in functions.values()}
        assert ("sg-0123456789abcdef0" in groups.pop()) == bool(context["security_groups"])
        assert groups == set()
        endpoints = [name for name in context["endpoints"].split(",") if name]
        assert len(stack.resources("AWS::EC2::VPCEndpoint")) == len(endpoints)
        kinds = [
            item["Properties"]["EndpointConfiguration"]["Types"]
            for item in stack.resources("AWS::ApiGateway::RestApi").values()
        ]
        assert kinds == {"http": [], "rest": [["REGIONAL"]], "private": [["PRIVATE"]]}[context["api"]]
        assert len(stack.resources("AWS::ApiGatewayV2::Api")) == (context["api"] == "http")
        assert len(stack.resources("AWS::WAFv2::WebACLAssociation")) == bool(context["web_acl"])
        buckets = [name for name in stack.resources("AWS::S3::Bucket") if name.startswith("Data")]
        assert len(buckets) == (context["batch"] and not context["files_bucket"])


def _text(uri: Any) -> str:
    """An image's URI as an account has it."""
    return str(
        uri
        if isinstance(uri, str)
        else "".join(PSEUDO[part["Ref"]] if isinstance(part, dict) else part for part in uri["Fn::Join"][1])
    )
