"""Stands in the place of the SDK's own conftest: the same clients, and one line for each test of how it went."""

from __future__ import annotations

import asyncio
import inspect
import json
import os
from collections.abc import Iterator

import anthropic
import pytest

GIVEN = {"base_url": os.environ["TEST_API_BASE_URL"], "api_key": "sample", "max_retries": 0}
# One for all asynchronous tests.
LOOP = asyncio.Runner()


@pytest.fixture(scope="session")
def client(request: pytest.FixtureRequest) -> Iterator[anthropic.Anthropic]:
    with anthropic.Anthropic(**GIVEN, _strict_response_validation=getattr(request, "param", True)) as client:
        yield client


@pytest.fixture(scope="session")
def async_client(request: pytest.FixtureRequest) -> Iterator[anthropic.AsyncAnthropic]:
    param = getattr(request, "param", True)

    async def made() -> anthropic.AsyncAnthropic:
        if isinstance(param, bool):
            return anthropic.AsyncAnthropic(**GIVEN, _strict_response_validation=param)
        assert param == {"http_client": "aiohttp"}
        http_client = anthropic.DefaultAioHttpClient()
        return anthropic.AsyncAnthropic(**GIVEN, _strict_response_validation=True, http_client=http_client)

    client = LOOP.run(made())
    yield client
    LOOP.run(client.close())


def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    if not inspect.iscoroutinefunction(pyfuncitem.obj):
        return None
    wanted = inspect.signature(pyfuncitem.obj).parameters
    given = {name: value for name, value in pyfuncitem.funcargs.items() if name in wanted}
    LOOP.run(pyfuncitem.obj(**given))
    return True


def pytest_unconfigure() -> None:
    LOOP.close()


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo):
    report = (yield).get_result()
    if report.when != "call" and not report.failed:
        return
    told = {"test": item.nodeid.partition("::")[2], "file": str(item.path).rpartition("api_resources/")[2], "status": 0, "reason": ""}
    told["result"] = report.outcome
    if report.failed:
        error = call.excinfo and call.excinfo.value
        body = getattr(error, "body", None)
        message = body["error"]["message"] if isinstance(body, dict) and "error" in body else str(error)
        told |= {"status": getattr(error, "status_code", 0), "reason": message}
    with open(os.environ["OWN_RESULTS"], "a") as results:
        results.write(json.dumps(told) + "\n")
