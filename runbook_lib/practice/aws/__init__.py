"""The AWS account of the practice platform: moto behind a front that adds what moto lacks."""
