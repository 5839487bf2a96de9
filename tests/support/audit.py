"""What the operator asked of the API server, out of the audit log, and what its RBAC allows."""

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

_TOO_LATE = re.compile("namespace .* being terminated|custom resource definition is terminating")


class Right(NamedTuple):
    """One verb on one resource; a subresource follows a slash, as in RBAC."""

    group: str
    resource: str
    verb: str


def asked_for(log: Path, user: str) -> Iterator[tuple[Right, str]]:
    """Yield each right that a user needed, and what was said when it did not have it, else nothing.

    A server-side apply that makes an object is a patch, for which the API server wants the right to
    create as well.
    """
    for event in _events(log, user):
        reference = event.get("objectRef")
        if reference is None:
            # Discovery, which every service account may do.
            continue
        decision = event["annotations"].get("authorization.k8s.io/decision")
        subresource = reference.get("subresource")
        resource = reference["resource"] + (f"/{subresource}" if subresource else "")
        answer = event.get("responseStatus") or {}
        status = answer.get("code")
        group = reference.get("apiGroup", "")
        # Authorization inside of admission is no decision of its own in the log.
        # Whoever asks, nothing is made any more where all is being deleted.
        is_too_late = _TOO_LATE.search(answer.get("message", ""))
        denial = ""
        if decision != "allow" or (status == 403 and not is_too_late):
            denial = str(answer.get("message") or answer)
        yield Right(group, resource, event["verb"]), denial
        if event["verb"] == "patch" and status == 201:
            yield Right(group, resource, "create"), denial


def granted(rules: Iterable[Mapping[str, Any]]) -> set[Right]:
    """Return what the rules of a role allow."""
    return {
        Right(group, resource, verb)
        for rule in rules
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }


def _events(log: Path, user: str) -> Iterator[Mapping[str, Any]]:
    with log.open() as lines:
        for line in lines:
            event = json.loads(line)
            if event["user"]["username"] == user:
                yield event
