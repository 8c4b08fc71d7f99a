"""What fails inside of a platform is told."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator

import pytest

from runbook_lib.practice.troubles import KEPT, Troubles
from runbook_lib.practice.wait import cancel, lasting


@pytest.fixture
def troubles() -> Iterator[Troubles]:
    handler = Troubles()
    logging.getLogger().addHandler(handler)
    yield handler
    logging.getLogger().removeHandler(handler)


async def follow(fails: bool) -> None:
    if fails:
        raise LookupError("the pods are gone")
    await asyncio.Event().wait()


def test_a_lasting_task_that_fails_is_told_at_once(troubles: Troubles) -> None:
    async def host() -> None:
        task = lasting(follow(fails=True))
        await asyncio.wait({task})

    asyncio.run(host())
    (trouble,) = troubles.kept
    assert "follow" in trouble
    assert "LookupError('the pods are gone')" in trouble


def test_one_that_is_cancelled_has_not_failed(troubles: Troubles) -> None:
    async def host() -> None:
        task = lasting(follow(fails=False))
        await asyncio.sleep(0)
        await cancel(task)

    asyncio.run(host())
    assert not troubles.kept


def test_warnings_are_no_troubles_and_the_last_errors_are_kept(troubles: Troubles) -> None:
    logging.getLogger("practice").warning("a fault that was made")
    assert not troubles.kept
    for number in range(KEPT + 1):
        logging.getLogger("practice").error("failure %d", number)
    assert troubles.kept[0] == "failure 1"
    assert len(troubles.kept) == KEPT
