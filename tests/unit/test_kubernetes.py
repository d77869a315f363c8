"""The manifests under deploy/kubernetes: valid, of a piece, and about what is really there."""

import re
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from control.config import load
from tests.postman import table

FOLDER = Path(__file__).parents[2] / "deploy" / "kubernetes"
INSTANCES = ("service", "worker")
DRAWN_FROM = ("drawbridge.stores", "drawbridge.callers", "drawbridge.metrics")

Object = dict[str, Any]


def objects(*names: str) -> list[Object]:
    """The objects of some files, of all that the base applies where none is named."""
    names = names or tuple(yaml.safe_load((FOLDER / "kustomization.yaml").read_text())["resources"])
    return [found for name in names for found in yaml.safe_load_all((FOLDER / name).read_text())]


def one(kind: str, file: str) -> Object:
    (found,) = (each for each in objects(file) if each["kind"] == kind)
    return found


def pod(instance: str) -> Object:
    spec: Object = one("Deployment", f"{instance}.yaml")["spec"]["template"]["spec"]
    return spec


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize(
    "found", [*objects(), *objects("secret.example.yaml")], ids=lambda o: f"{o['kind']}"
)
def test_each_is_what_kubernetes_takes(found: Object) -> None:
    kubernetes_validate.validate(found, "1.34", strict=True)


def test_each_file_is_applied_by_the_base_a_component_or_by_hand() -> None:
    applied = {"kustomization.yaml", "secret.example.yaml"}
    for listing in FOLDER.rglob("kustomization.yaml"):
        folder = listing.parent.relative_to(FOLDER)
        applied.add(str(folder / "kustomization.yaml"))
        applied |= {str(folder / name) for name in yaml.safe_load(listing.read_text())["resources"]}
    assert {str(path.relative_to(FOLDER)) for path in FOLDER.rglob("*.yaml")} == applied


@pytest.mark.parametrize("instance", INSTANCES)
def test_probes_ask_routes_that_are_served(instance: str) -> None:
    served = {route.path for route in table() if route.method == "GET"}
    (container,) = pod(instance)["containers"]
    ports = {port["name"] for port in container["ports"]}
    for name in ("startupProbe", "livenessProbe", "readinessProbe"):
        asked = container[name]["httpGet"]
        assert asked["path"] in served
        assert asked["port"] in ports


def test_every_variable_is_a_setting_and_its_value_a_good_one() -> None:
    given: dict[str, str] = dict(one("ConfigMap", "config.yaml")["data"])
    for instance in INSTANCES:
        (container,) = pod(instance)["containers"]
        given |= {entry["name"]: entry["value"] for entry in container.get("env", [])}
    load(("manifests", given))
    secrets = one("Secret", "secret.example.yaml")["stringData"]
    for name in secrets:
        with_value = {name: "whsec_" + "A" * 32 if "CALLBACK" in name else "redis://x" + "x" * 32}
        if name != "DATABASE_URL":
            load(("secrets", with_value))


def test_nobody_is_killed_before_the_drain_could_end() -> None:
    config = load(("manifests", one("ConfigMap", "config.yaml")["data"]))
    service, worker = pod("service"), pod("worker")
    (container,) = service["containers"]
    pause = container["lifecycle"]["preStop"]["sleep"]["seconds"]
    requests_s = 30
    least = pause + config.service.drain_delay_s + requests_s
    assert service["terminationGracePeriodSeconds"] > least
    least = config.worker.drain_soft_s + config.worker.drain_hard_s
    assert worker["terminationGracePeriodSeconds"] > least + 10


@pytest.mark.parametrize("file", ["service.yaml", "worker.yaml", "migrate.yaml"])
def test_pods_have_no_rights_and_no_settings_but_their_own(file: str) -> None:
    kind = "Job" if file == "migrate.yaml" else "Deployment"
    spec = one(kind, file)["spec"]["template"]["spec"]
    assert spec["enableServiceLinks"] is False
    assert spec["automountServiceAccountToken"] is False
    assert spec["securityContext"]["runAsNonRoot"] is True
    for container in spec["containers"]:
        secured = container["securityContext"]
        assert secured["readOnlyRootFilesystem"] is True
        assert secured["allowPrivilegeEscalation"] is False
        assert secured["capabilities"] == {"drop": ["ALL"]}


@pytest.mark.parametrize("instance", INSTANCES)
def test_whatever_selects_pods_finds_them(instance: str) -> None:
    deployment = one("Deployment", f"{instance}.yaml")
    labels = deployment["spec"]["template"]["metadata"]["labels"]
    for found in objects(f"{instance}.yaml"):
        match found["kind"]:
            case "Deployment" | "PodDisruptionBudget":
                assert found["spec"]["selector"]["matchLabels"].items() <= labels.items()
            case "Service":
                assert found["spec"]["selector"].items() <= labels.items()
            case "HorizontalPodAutoscaler":
                assert found["spec"]["scaleTargetRef"]["name"] == deployment["metadata"]["name"]


def test_policies_and_scalers_are_about_these_pods_and_metrics_that_exist() -> None:
    used = set(re.findall(r"drawbridge\.[a-z]+", (FOLDER / "network.yaml").read_text()))
    assert used == set(DRAWN_FROM)
    scaled = one("ScaledObject", "keda/worker.yaml")["spec"]
    assert scaled["scaleTargetRef"]["name"] == "drawbridge-worker"
    asked = set(re.findall(r"drawbridge_\w+", scaled["triggers"][0]["metadata"]["query"]))
    source = "".join(
        path.read_text()
        for room in ("control", "worker", "service")
        for path in (FOLDER.parents[1] / room).rglob("*.py")
    )
    assert asked
    assert all(f'"{name}"' in source for name in asked)
