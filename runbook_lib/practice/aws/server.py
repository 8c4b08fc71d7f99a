"""AWS for the practice platform: moto's server behind a thin front.

moto holds the account; the front fails where it is told to and adds what moto lacks, a module a
service. docs/practice-aws.md says what is whose, and where the two part from the real AWS.
"""

from __future__ import annotations

import asyncio
import dataclasses
import json
import os
import secrets
import string
import threading
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from runbook_lib.practice.aws import ec2_filters, enumerations
from runbook_lib.practice.aws.acm import Certificates
from runbook_lib.practice.aws.additions import Addition
from runbook_lib.practice.aws.autoscaling import AutoScaling
from runbook_lib.practice.aws.cloudwatch import Metrics
from runbook_lib.practice.aws.documents import fill_in, plain
from runbook_lib.practice.aws.ec2 import Ec2
from runbook_lib.practice.aws.eks import Eks
from runbook_lib.practice.aws.eks_access import AccessEntries
from runbook_lib.practice.aws.elbv2 import LoadBalancing
from runbook_lib.practice.aws.front import Front
from runbook_lib.practice.aws.identity import Identity
from runbook_lib.practice.aws.kms import Kms
from runbook_lib.practice.aws.lean import ACCOUNT, REGION, application, load_moto
from runbook_lib.practice.aws.policy_rules import PolicyRules
from runbook_lib.practice.aws.quotas import Quotas
from runbook_lib.practice.aws.rds import Rds
from runbook_lib.practice.aws.route53 import Route53
from runbook_lib.practice.aws.sessions import Sessions, straight
from runbook_lib.practice.aws.ssm import Ssm
from runbook_lib.practice.aws.wire import AwsError, Document
from runbook_lib.practice.system import System

if TYPE_CHECKING:
    from runbook_lib.practice.aws.seed import Seeded
    from runbook_lib.practice.aws.snapshot import Snapshot

__all__ = ["ACCOUNT", "REGION", "Aws"]

POLICIES = ("Policy", "PolicyDocument", "AssumeRolePolicyDocument")


def random_key(alphabet: str, length: int) -> str:
    return "".join(secrets.choice(alphabet) for _ in range(length))


class Aws(System):
    """moto's server on loopback, in threads of this process.

    `create` first, once: it loads moto and listens; then `seed`. One a process: moto's state is
    the process's.
    """

    def __init__(self) -> None:
        self.port = 0
        self.access_key_id = "AKIA" + random_key(string.ascii_uppercase + "234567", 16)
        self.secret_access_key = random_key(string.ascii_letters + string.digits, 40)
        self.eks = Eks(self.ask)
        self.metrics = Metrics(self.ask)
        self.rds = Rds(self.ask)
        self.balancing = LoadBalancing(self.ask, self.metrics)
        self._identity = Identity(self.ask, self.access_key_id)
        self._additions: list[Addition] = [
            self.eks,
            self.metrics,
            self._identity,
            AccessEntries(self.ask),
            AutoScaling(self.ask),
            Certificates(self.ask),
            Ec2(self.ask, self.metrics),
            self.balancing,
            Kms(self.ask),
            PolicyRules(self.ask),
            Quotas(self.ask),
            self.rds,
            Route53(self.ask),
            Ssm(self.ask),
        ]
        self._front: Front | None = None
        self._server: Any = None
        self._thread = threading.Thread()
        self._endpoint = ("", "")
        self.seeded: Seeded | None = None
        self._clients: dict[str, Any] = {}
        self._sessions = Sessions(self.ask, lambda: self.url)
        self._snapshot: Snapshot | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def running(self) -> bool:
        return self._server is not None

    def create(self) -> None:
        """Load moto and listen on a free port. Blocks for seconds, nearly all of it imports."""
        # The default images alone cost seconds; nothing here names one.
        os.environ["MOTO_EC2_LOAD_DEFAULT_AMIS"] = "false"
        load_moto()
        handlers = {
            name: handler
            for addition in self._additions
            for name, handler in addition.handlers().items()
        }
        self._front = Front(
            application(), handlers, (self._identity.check, ec2_filters.check, enumerations.check)
        )
        self._listen()

    async def start(self) -> None:
        """Listen (again): on the port of before, with the state of before."""
        await asyncio.to_thread(self._listen)

    async def stop(self) -> None:
        """Refuse connections; the state stays."""
        await asyncio.to_thread(self._close)

    async def heal(self) -> None:
        """The account as it was seeded, with the same ids, and no faults."""
        await asyncio.to_thread(self._restore)

    def _listen(self) -> None:
        from moto.moto_server.werkzeug_app import MotoRequestHandler
        from werkzeug.serving import make_server

        class QuietHandler(MotoRequestHandler):
            def log_request(self, *_: object) -> None:
                """Requests are not logged: the host's log is for what went wrong."""

            def connection_dropped(self, *_: object) -> None:
                """A fault tore the connection down: no other request is read from it."""
                self.close_connection = True

        if self._server:
            return
        front = self._made()
        front.release()
        self._server = make_server(
            "127.0.0.1", self.port, front, threaded=True, request_handler=QuietHandler
        )
        self.port = self._server.server_port
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(0.05,), daemon=True
        )
        self._thread.start()

    def _close(self) -> None:
        if not self._server:
            return
        self._made().closing.set()
        self._server.shutdown()
        # Its last act is to close the socket; only then are connections refused.
        self._thread.join()
        self._server = None

    def _made(self) -> Front:
        if not self._front:
            raise RuntimeError("Aws.create has not been called")
        return self._front

    def seed(self, master_password: str) -> Seeded:
        """Fill the account with the healthy platform, once; the database's password is given."""
        from runbook_lib.practice.aws import seed
        from runbook_lib.practice.aws.snapshot import Snapshot

        with self._made().one_at_a_time:
            seed.empty()
            self.seeded = seed.fill(self, master_password)
            self._snapshot = Snapshot()
        return self.seeded

    def _restore(self) -> None:
        from runbook_lib.practice.aws import seed

        if self._snapshot is None or self.seeded is None:
            raise RuntimeError("Aws.seed has not been called")
        with self._made().one_at_a_time:
            self.faults([])
            for addition in self._additions:
                addition.reset()
            self._snapshot.restore()
            self._sessions.forget()
            seed.complete(self, self.seeded)
            if self._endpoint[0]:
                seed.point_cluster_at(*self._endpoint)

    def point_cluster_at(self, url: str, certificate: str) -> None:
        """Make DescribeCluster name the practice Kubernetes API. `certificate`: base64 of PEM."""
        from runbook_lib.practice.aws import seed

        self._endpoint = (url, certificate)
        seed.point_cluster_at(url, certificate)

    def undisturbed(self) -> threading.RLock:
        """Held while moto's state is looked at: nobody changes it meanwhile."""
        return self._made().one_at_a_time

    def ask(self, service: str, operation: str, parameters: Document) -> Document:
        """One call inside the process, past the faults. Raises AwsError, or ValueError for what
        AWS does not know."""
        return self._made().call(service, operation, parameters)

    def verbs(self) -> Mapping[str, Callable[..., Any]]:
        verbs: dict[str, Callable[..., Any]] = {"faults": self.faults, "call": self.call}
        for addition in self._additions:
            verbs.update(addition.verbs())
        return verbs

    def faults(self, rules: list[dict[str, Any]]) -> None:
        """Replace all faults; see aws/faults.py for what a rule says. None: `rules: []`."""
        front = self._made()
        front.rules.replace(rules)
        front.release()

    def call(self, service: str, operation: str, arguments: dict[str, Any] | None = None) -> Any:
        """An ordinary call, as the account's administrator: `ec2`, `RevokeSecurityGroupIngress`.

        Arguments and answer as boto3 has them, moments in ISO 8601; `${security_groups.rds}` in an
        argument is what `Seeded` says, and a policy document may be an object. Raises ValueError
        for what AWS refuses or does not know.
        """
        try:
            return plain(self.ask(service, operation, self._filled(arguments or {})))
        except AwsError as error:
            raise ValueError(f"{service}.{operation}: {error}") from None

    def _filled(self, arguments: dict[str, Any]) -> dict[str, Any]:
        if self.seeded is None:
            return arguments
        filled: dict[str, Any] = fill_in(arguments, dataclasses.asdict(self.seeded))
        documents = {name: filled[name] for name in POLICIES if isinstance(filled.get(name), dict)}
        return filled | {name: json.dumps(document) for name, document in documents.items()}

    def environment(self) -> dict[str, str]:
        return {
            "AWS_ENDPOINT_URL": self.url,
            "AWS_ACCESS_KEY_ID": self.access_key_id,
            "AWS_SECRET_ACCESS_KEY": self.secret_access_key,
            "AWS_DEFAULT_REGION": REGION,
            "AWS_EC2_METADATA_DISABLED": "true",
        }

    def secrets(self) -> list[str]:
        return [self.access_key_id, self.secret_access_key]

    def client(self, service: str) -> Any:
        """A boto3 client of our own server; the same one each time."""
        import boto3

        if service not in self._clients:
            self._clients[service] = boto3.client(
                service,
                endpoint_url=self.url,
                region_name=REGION,
                aws_access_key_id=self.access_key_id,
                aws_secret_access_key=self.secret_access_key,
                config=straight(),
            )
        return self._clients[service]

    def client_of_pod(self, service: str, pod: str, role: str, token: str) -> Any:
        """What boto3 in a pod has: credentials of its role, else of its node. See `Sessions`."""
        return self._sessions.client(service, pod, role, token)
