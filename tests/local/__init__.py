"""The whole service on this machine, without Docker: what ``make run`` starts.

======================  ===========================================================================
:mod:`.stack`           the command: DynamoDB, tables and API together, until Ctrl-C
:mod:`.api`             SAM CLI's own API server over the routes of ``template.yaml``
:mod:`.environments`    execution environments: processes that run the functions, warm between requests
:mod:`.bootstrap`       what runs inside such a process
:mod:`.dynamodb`        the embedded DynamoDB, and the tables of the template in it
:mod:`.template`        ``template.yaml``, read as data
:mod:`.account`         the AWS account of this machine's user stays out
:mod:`.processes`       starting and ending processes so that none is left behind
======================  ===========================================================================
"""
