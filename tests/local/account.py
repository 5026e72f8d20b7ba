"""Isolation from the user's AWS account: its credentials, profiles and endpoints are not read."""

import os

REGION = "us-east-1"
# The emulator accepts any.
CREDENTIALS = {"AWS_ACCESS_KEY_ID": "local", "AWS_SECRET_ACCESS_KEY": "local"}
NO_FILES = {"AWS_CONFIG_FILE": os.devnull, "AWS_SHARED_CREDENTIALS_FILE": os.devnull}


def replace() -> None:
    """Replace the AWS variables of this process by dummy values, and use no proxy for loopback."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        del os.environ[name]
    os.environ.update(CREDENTIALS, **NO_FILES, AWS_DEFAULT_REGION=REGION, SAM_CLI_TELEMETRY="0")
    os.environ["NO_PROXY"] = os.environ["no_proxy"] = "127.0.0.1,localhost"
