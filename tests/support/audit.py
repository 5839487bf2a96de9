"""What the operator asked of the API server, out of the audit log, and what its RBAC allows."""

import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple


class Right(NamedTuple):
    """One verb on one resource; a subresource follows a slash, as in RBAC."""

    group: str
    resource: str
    verb: str


def asked_for(log: Path, user: str) -> Iterator[tuple[Right, bool]]:
    """Yield each right that a user needed, and whether it had it.

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
        # In a namespace that is being deleted nothing is made any more, whoever asks.
        is_too_late = "being terminated" in answer.get("message", "")
        is_allowed = decision == "allow" and (status != 403 or is_too_late)
        yield Right(group, resource, event["verb"]), is_allowed
        if event["verb"] == "patch" and status == 201:
            yield Right(group, resource, "create"), is_allowed


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
