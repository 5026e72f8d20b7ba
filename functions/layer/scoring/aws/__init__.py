"""Call AWS services without boto3."""
