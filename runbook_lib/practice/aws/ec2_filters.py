"""Filters that EC2 does not have are refused: moto breaks at some, and passes over others.

Source: the EC2 API reference, whose list of an operation's filters botocore's model carries.
"""

from __future__ import annotations

import html
import re

from runbook_lib.practice.aws.wire import AwsError, Call, model

NAMED = re.compile(r"<li>\s*<p>\s*<code>([^<]+)</code>")
# EC2 takes them everywhere, though not every list names them.
TAGS = ("tag", "tag-key", "tag-value")


def check(call: Call) -> None:
    """Raises AwsError for a call with a filter that its operation does not have."""
    if call.service != "ec2" or call.operation is None:
        return
    shape = model("ec2").operation_model(call.operation).input_shape
    for member in ("Filters", "Filter"):
        if shape is None or member not in shape.members:
            continue
        known = {html.unescape(one) for one in NAMED.findall(shape.members[member].documentation)}
        for given in call.parameters.get(member, []):
            name = given.get("Name", "")
            if known and name not in known and name not in TAGS and not name.startswith("tag:"):
                raise AwsError("InvalidParameterValue", f"The filter '{name}' is invalid")
