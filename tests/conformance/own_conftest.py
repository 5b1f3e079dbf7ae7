"""Stands in the place of the SDK's own conftest: the same client, and one line for each test of how it went."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator

import anthropic
import pytest


@pytest.fixture
def client(request: pytest.FixtureRequest) -> Iterator[anthropic.Anthropic]:
    with anthropic.Anthropic(
        base_url=os.environ["TEST_API_BASE_URL"],
        api_key="sample",
        max_retries=0,
        _strict_response_validation=getattr(request, "param", True),
    ) as client:
        yield client


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo):
    report = (yield).get_result()
    if report.when != "call" and not report.failed:
        return
    told = {"test": item.nodeid.partition("::")[2], "file": str(item.path).rpartition("api_resources/")[2], "result": "pass", "reason": ""}
    if report.skipped:
        told |= {"result": "skipped"}
    elif report.failed:
        error = call.excinfo and call.excinfo.value
        status = getattr(error, "status_code", 0)
        body = getattr(error, "body", None)
        message = body["error"]["message"] if isinstance(body, dict) and "error" in body else str(error)
        kinds = {501: "later", 400: "refused", 404: "refused", 409: "refused"}
        told |= {"result": kinds.get(status, "fail"), "reason": message}
    with open(os.environ["OWN_RESULTS"], "a") as results:
        results.write(json.dumps(told) + "\n")
