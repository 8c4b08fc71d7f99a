"""What docs/practice-services.md says of verbs is what there is."""

from __future__ import annotations

from typing import Any

from practice.documented import documented, offered

from runbook_lib.practice.objects.resources import Catalogue
from runbook_lib.practice.objects.store import Store
from runbook_lib.practice.services.feast import FeatureServer
from runbook_lib.practice.services.kserve import ModelServers
from runbook_lib.practice.services.mlflow import Mlflow
from runbook_lib.practice.services.platform_api import PlatformApi

PAGE = "practice-services.md"


def test_verbs_are_documented() -> None:
    store, nothing = Store(Catalogue()), None
    kubelet: Any = nothing
    aws: Any = nothing
    common = documented(PAGE)
    assert offered(Mlflow(store, kubelet, aws).verbs()) == common
    assert offered(ModelServers(store, kubelet, aws).verbs()) == common
    api = PlatformApi(store, kubelet, {}.get)
    assert offered(api.verbs()) == common | documented(PAGE, "Verbs of the platform API")
    feast = FeatureServer(store, kubelet, aws, {}.get)
    assert offered(feast.verbs()) == common | documented(PAGE, "Verbs of Feast")
