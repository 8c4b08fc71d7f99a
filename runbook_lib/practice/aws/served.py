"""The services of AWS that the practice account serves.

moto would answer for many more, from an account that holds nothing of theirs and is not snapshot:
what a step does there would look done and be no more than moto's word.
"""

from __future__ import annotations

# By botocore's names. "unsigned" is S3 as it is asked without credentials.
SERVED = (
    *("acm", "autoscaling", "cloudwatch", "ec2", "ecr", "eks", "elbv2", "iam", "kms", "rds"),
    *("route53", "s3", "service-quotas", "ssm", "sts"),
)
UNSIGNED = "unsigned"


def is_served(service: str) -> bool:
    """Whether calls of that service (botocore's name, or `unsigned`) are answered."""
    return service in SERVED or service == UNSIGNED
