"""The whole service on this machine, without Docker or an AWS account. ``make run`` starts it.

======================  ===========================================================================
:mod:`.stack`           the command: starts everything below and serves until Ctrl-C
:mod:`.stream`          ``make stream``: the same with a Kafka topic, and card payments that flow through it
:mod:`.api`             SAM CLI's API server with the routes of ``template.yaml``
:mod:`.server`          the HTTP server below it
:mod:`.console`         the log: one line per request and per alert
:mod:`.environments`    execution environments: warm processes that run the functions
:mod:`.bootstrap`       the program in such a process
:mod:`.emulator`        DynamoDB, SQS and SNS, with the tables, queues and topics of the template
:mod:`.broker`          the Kafka broker of ``make broker``
:mod:`.event_sources`   event source mappings: invokes functions with batches of messages or records
:mod:`.alerts`          a subscription to the topic of alerts
:mod:`.template`        ``template.yaml`` as data
:mod:`.cloudformation`  evaluates the intrinsic functions of a template
:mod:`.account`         isolation from the user's AWS account
:mod:`.processes`       starts and ends processes, and finds free ports
:mod:`.certificates`    TLS certificates for servers on this machine
======================  ===========================================================================
"""
