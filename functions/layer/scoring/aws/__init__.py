"""Calls of AWS services, without boto3."""
