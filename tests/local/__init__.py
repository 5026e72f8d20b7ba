"""The whole service on this machine, without Docker: what ``make run`` starts.

======================  ===========================================================================
:mod:`.stack`           the command: emulator, event source and API together, until Ctrl-C
:mod:`.api`             SAM CLI's own API server over the routes of ``template.yaml``
:mod:`.server`          the HTTP server below it
:mod:`.console`         what is printed: one line per request
:mod:`.environments`    execution environments: processes that run the functions, warm between requests
:mod:`.bootstrap`       what runs inside such a process
:mod:`.emulator`        the embedded DynamoDB and SQS, and the tables and queues of the template in them
:mod:`.event_source`    what invokes functions with the messages of queues
:mod:`.template`        ``template.yaml``, read as data
:mod:`.cloudformation`  evaluates the intrinsic functions of a template
:mod:`.account`         the AWS account of this machine's user stays out
:mod:`.processes`       starting and ending processes so that none is left behind
======================  ===========================================================================
"""
