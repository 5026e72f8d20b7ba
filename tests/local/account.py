"""The AWS account of this machine's user stays out: nothing here reads it, sends it anywhere, or is changed by it."""

import os

REGION = "us-east-1"
# The embedded DynamoDB takes any.
CREDENTIALS = {"AWS_ACCESS_KEY_ID": "local", "AWS_SECRET_ACCESS_KEY": "local"}
NO_FILES = {"AWS_CONFIG_FILE": os.devnull, "AWS_SHARED_CREDENTIALS_FILE": os.devnull}


def replace() -> None:
    """Replace all AWS variables of this process by those of an account that is none, and reach loopback directly."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        del os.environ[name]
    os.environ.update(CREDENTIALS, **NO_FILES, AWS_DEFAULT_REGION=REGION, SAM_CLI_TELEMETRY="0")
    os.environ["NO_PROXY"] = os.environ["no_proxy"] = "127.0.0.1,localhost"
