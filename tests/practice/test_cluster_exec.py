"""Commands in pods, over the real exec websocket: they answer from the cluster's state."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from practice.shop import empty, program, put, run
from practice.test_cluster_fates import dns

POLICIES = "/apis/networking.k8s.io/v1/namespaces/shop/networkpolicies"


@pytest.fixture(autouse=True)
def clean(practice: Any) -> Iterator[None]:
    yield
    empty(practice)


@pytest.fixture
def pods(practice: Any) -> tuple[str, str]:
    """(a client's pod, a server's pod behind Service web:80 on port 8080)."""
    dns(practice)
    ports = {"ports": [{"containerPort": 8080, "name": "http"}]}
    practice.deploy("web", {"answers": {"/health": '200 {"ok": true}'}}, container=ports)
    spec = {"selector": {"app": "web"}, "ports": [{"port": 80, "targetPort": "http"}]}
    put(practice, "/api/v1/namespaces/shop/services", {"metadata": {"name": "web"}, "spec": spec})
    practice.deploy("client", container={"env": [{"name": "MODE", "value": "test"}]})
    web = practice.until_ready("web")[0]["metadata"]["name"]
    return practice.until_ready("client")[0]["metadata"]["name"], web


def policy(practice: Any, app: str, direction: str, rules: list[Any]) -> None:
    spec = {
        "podSelector": {"matchLabels": {"app": app}},
        "policyTypes": [direction.capitalize()],
        direction: rules,
    }
    put(practice, POLICIES, {"metadata": {"name": f"{app}-{direction}"}, "spec": spec})


def test_environment_and_shell(practice: Any, pods: tuple[str, str]) -> None:
    client, _ = pods
    assert run(practice, client, "printenv", "MODE") == (0, "test\n", "")
    assert run(practice, client, "printenv", "NO_SUCH")[0] == 1
    assert "MODE=test\n" in run(practice, client, "env")[1]
    assert run(practice, client, "sh", "-c", 'echo "$MODE" && echo $HOSTNAME') == (
        0,
        f"test\n{client}\n",
        "",
    )
    assert run(practice, client, "sh", "-c", "printenv X || echo none")[1] == "none\n"
    code, _, err = run(practice, client, "sh", "-c", "env | grep MODE")
    assert code == 2 and "not simulated" in err


def test_what_the_image_has_not(practice: Any, pods: tuple[str, str]) -> None:
    client, _ = pods
    code, out, err = run(practice, client, "psql", "-c", "SELECT 1")
    assert (code, out) == (127, "")
    assert 'exec: "psql": executable file not found in $PATH' in err
    assert run(practice, client, "sh", "-c", "aws s3 ls") == (127, "", "sh: 1: aws: not found\n")
    program(practice, client, {"tools": ["sh"], "commands": {"uptime -p": "up 2 weeks\n"}})
    practice.until(lambda: run(practice, client, "nc", "-z", "web", "80")[0] == 127, "no nc")
    assert run(practice, client, "uptime", "-p") == (0, "up 2 weeks\n", "")


def test_ordinary_tools_are_not_said_to_be_missing(practice: Any, pods: tuple[str, str]) -> None:
    client, _ = pods
    for tool in ("ls", "rm", "ps", "df", "python3"):
        refused = (126, "", f"{tool}: the practice platform does not simulate this command\n")
        assert run(practice, client, tool, "-h") == refused
        assert run(practice, client, "sh", "-c", f"{tool} -h") == refused
    assert run(practice, client, "/bin/ls")[0] == 126
    # An image with no shell has none of them; the runtime says so.
    program(practice, client, {"tools": []})
    practice.until(lambda: run(practice, client, "ls")[0] == 127, "no ls")
    assert 'exec: "ls": executable file not found in $PATH' in run(practice, client, "ls")[2]


def test_files(practice: Any, pods: tuple[str, str]) -> None:
    practice.core.create_namespaced_config_map(
        "shop", {"metadata": {"name": "conf"}, "data": {"app.yaml": "a: 1\n"}}
    )
    practice.deploy(
        "app",
        {"files": {"/etc/version": "7\n"}},
        container={"volumeMounts": [{"name": "c", "mountPath": "/conf"}]},
        volumes=[{"name": "c", "configMap": {"name": "conf"}}],
    )
    pod = practice.until_ready("app")[0]["metadata"]["name"]
    assert run(practice, pod, "cat", "/etc/version", "/conf/app.yaml")[1] == "7\na: 1\n"
    account = "/var/run/secrets/kubernetes.io/serviceaccount"
    assert run(practice, pod, "cat", f"{account}/namespace")[1] == "shop"
    assert run(practice, pod, "cat", "/nope") == (1, "", "cat: /nope: No such file or directory\n")
    assert "nameserver 172.20.0.10" in run(practice, pod, "cat", "/etc/resolv.conf")[1]


def test_names(practice: Any, pods: tuple[str, str]) -> None:
    client, _ = pods
    address = practice.core.read_namespaced_service("web", "shop").spec.cluster_ip
    full = "web.shop.svc.cluster.local"
    assert run(practice, client, "getent", "hosts", "web")[1].split() == [address, full]
    for name in ("web", "web.shop", full):
        code, out, _ = run(practice, client, "nslookup", name)
        assert code == 0 and f"Name:\t{full}\nAddress: {address}\n" in out
    code, out, _ = run(practice, client, "nslookup", "wed")
    assert code == 1 and "** server can't find wed: NXDOMAIN" in out
    policy(practice, "client", "egress", [{"ports": [{"port": 8080}]}])
    code, out, _ = run(practice, client, "nslookup", "web")
    assert code == 1 and "no servers could be reached" in out
    assert run(practice, client, "curl", "-sS", "http://web")[0] == 6
    assert "Resolving timed out" in run(practice, client, "curl", "-m", "2", "http://web")[2]


def test_a_name_server_that_knows_another_zone(practice: Any, pods: tuple[str, str]) -> None:
    client, _ = pods
    corefile = {
        "Corefile": ".:53 {\n  kubernetes cluster.remote\n  forward . /etc/resolv.conf\n}\n"
    }
    path = "/api/v1/namespaces/kube-system/configmaps"
    put(practice, path, {"metadata": {"name": "coredns"}, "data": corefile})
    assert "NXDOMAIN" in run(practice, client, "nslookup", "web")[1]
    assert run(practice, client, "curl", "-sS", "http://web")[0] == 6
    practice.raw("DELETE", f"{path}/coredns")
    assert run(practice, client, "nslookup", "web")[0] == 0


def test_a_connection_that_works(practice: Any, pods: tuple[str, str]) -> None:
    client, web = pods
    code, _, err = run(practice, client, "nc", "-zv", "-w", "3", "web", "80")
    assert code == 0 and err.endswith("80 port [tcp/*] succeeded!\n")
    assert run(practice, client, "curl", "-s", "http://web/health") == (0, '{"ok": true}', "")
    form = ["curl", "-s", "-o", "/dev/null", "-w", "%{http_code}\\n"]
    assert run(practice, client, *form, "web/health")[1] == "200\n"
    assert run(practice, client, *form, "web/nothing")[1] == "404\n"
    ip = practice.core.read_namespaced_pod(web, "shop").status.pod_ip
    assert run(practice, client, "curl", "-v", f"http://{ip}:8080/health")[2].endswith("\n< \n")
    assert run(practice, web, "curl", "-s", "localhost:8080/health")[0] == 0
    assert run(practice, client, "curl", "-s", "-f", "http://web/nothing")[0] == 22
    program(practice, web, {"answer_seconds": 9})
    slow = ["curl", "-m", "5", "http://web/"]
    practice.until(lambda: run(practice, client, *slow)[0] == 28, "a slow answer")


def test_refused_is_not_dropped(practice: Any, pods: tuple[str, str]) -> None:
    client, web = pods
    ip = practice.core.read_namespaced_pod(web, "shop").status.pod_ip
    code, _, err = run(practice, client, "nc", "-zv", ip, "9999")
    assert code == 1 and err.endswith("(tcp) failed: Connection refused\n")
    code, _, err = run(practice, client, "curl", "-sS", f"http://{ip}:9999/")
    assert code == 7 and err.startswith(f"curl: (7) Failed to connect to {ip} port 9999")
    assert run(practice, client, "curl", "-m", "2", "http://web:81/")[0] == 28  # no such port
    practice.apps.patch_namespaced_deployment_scale("web", "shop", {"spec": {"replicas": 0}})
    practice.until(
        lambda: run(practice, client, "curl", "-m", "2", "http://web/")[0] == 7, "no endpoint"
    )


def test_policies_of_either_end_drop_packets(practice: Any, pods: tuple[str, str]) -> None:
    client, _ = pods
    policy(practice, "web", "ingress", [{"from": [{"podSelector": {"matchLabels": {"app": "x"}}}]}])
    code, _, err = run(practice, client, "curl", "-m", "3", "http://web/health")
    assert code == 28 and "Connection timed out after 3000 milliseconds" in err
    code, _, err = run(practice, client, "nc", "-zv", "-w", "2", "web", "80")
    assert code == 1 and "timed out: Operation now in progress" in err
    practice.raw("DELETE", POLICIES)
    assert run(practice, client, "curl", "-s", "http://web/health")[0] == 0
    names = {"ports": [{"port": 53, "protocol": "UDP"}]}
    policy(practice, "client", "egress", [names])
    assert run(practice, client, "curl", "-m", "3", "http://web/health")[0] == 28


def test_what_runs_on_loopback_is_tried_for_real(practice: Any, pods: tuple[str, str]) -> None:
    client, _ = pods
    port = practice.api.url.rsplit(":", 1)[1]
    assert run(practice, client, "nc", "-z", "127.0.0.1", port)[0] == 0
    assert run(practice, client, "nc", "-z", "localhost", port)[0] == 1
