"""SAM CLI's own API server, reading ``template.yaml``, with :mod:`.environments` in the place of its containers.

Routing, events and responses are SAM CLI's. Runs in SAM CLI's own virtual environment.
"""

import logging
import socket
import sys
import time
import uuid
from collections.abc import Callable
from typing import Any

from samcli.commands.local.cli_common.invoke_context import InvokeContext
from samcli.lib.providers.api_provider import ApiProvider
from samcli.local.apigw.event_constructor import construct_v2_event_http
from samcli.local.apigw.local_apigw_service import LocalApigwService
from werkzeug.serving import BaseWSGIServer, WSGIRequestHandler, make_server

from tests.local.environments import Environments
from tests.local.template import ROOT, TEMPLATE_FILE


class _Runtime:
    """What SAM CLI runs functions with."""

    def __init__(self, environments: Environments) -> None:
        self._environments = environments

    def invoke(self, function_config: Any, event: str, *_: Any, stdout: Any, **__: Any) -> None:
        stdout.write_str(self._environments.invoke(function_config.name, event))


class _Context(InvokeContext):  # type: ignore[misc]  # samcli has no types
    """SAM CLI's view of the template, with our runtime."""

    def __init__(self, environments: Environments) -> None:
        super().__init__(template_file=str(TEMPLATE_FILE))
        self._runtime = _Runtime(environments)

    @property
    def lambda_runtime(self) -> _Runtime:
        return self._runtime

    @staticmethod
    def _get_container_manager(*args: Any) -> None:
        """None, as there are no containers; SAM CLI's own asks for Docker."""

    def _add_account_id_to_global(self) -> None:
        """Nothing, as there is no account; SAM CLI's own asks AWS for it."""


class _Service(LocalApigwService):  # type: ignore[misc]  # samcli has no types
    """SAM CLI's API server, made to do as API Gateway does where the two differ.

    SAM CLI's events carry the id and the time at which the server was started, a body that is not UTF-8 fails in it, as
    does HEAD, it takes ``/score/`` for ``/score``, and sends ``/a//b`` away to ``/a/b``. API Gateway gives every
    request an id and a time of its own, hands such a body on in base64, takes these for different paths, and sends
    whatever no route matches to ``$default``.
    """

    def create(self) -> None:
        super().create()
        self._app.url_map.merge_slashes = False
        for rule in self._app.url_map.iter_rules():
            rule.strict_slashes = True
            rule.merge_slashes = False
        for status in (404, 405):
            self._app.register_error_handler(status, lambda _: self._request_handler())

    def _get_current_route(self, flask_request: Any) -> Any:
        try:
            return super()._get_current_route(flask_request)
        except KeyError:
            return self._dict_of_routes["/<path:any_path>:GET"]

    def _generate_lambda_event(self, flask_request: Any, route: Any, method: str, endpoint: str) -> dict[str, Any]:
        try:
            event: dict[str, Any] = super()._generate_lambda_event(flask_request, route, method, endpoint or "/")
        except UnicodeDecodeError:
            event = construct_v2_event_http(
                flask_request,
                self.port,
                binary_types=["*/*"],
                route_key="$default" if route.is_default_route else f"{method} {route.path}",
            )
        now = time.time()
        event["requestContext"] |= {
            "requestId": str(uuid.uuid4()),
            "time": time.strftime("%d/%b/%Y:%H:%M:%S +0000", time.gmtime(now)),
            "timeEpoch": int(now * 1000),
        }
        return event

    def server(self, listener: socket.socket) -> BaseWSGIServer:
        """The HTTP server, to answer on a socket that listens already."""
        self.create()
        return make_server(
            self.host, self.port, self._app, threaded=True, request_handler=_Handler, fd=listener.fileno()
        )


class _Handler(WSGIRequestHandler):
    # Headers and body are written apart; with Nagle's algorithm the body would wait for an acknowledgement.
    disable_nagle_algorithm = True


def serve(listener: socket.socket, environments: Environments, announce: Callable[[], None]) -> None:
    """Serve the API of the template until interrupted; ``announce`` is called when it is about to."""
    # SAM CLI warns of the authorizer for tokens, which it takes for one that is there.
    logging.getLogger("samcli.commands.local.lib.swagger.parser").setLevel(logging.ERROR)
    host, port = listener.getsockname()
    with _Context(environments) as context:
        service = _Service(
            api=ApiProvider(context.stacks, cwd=str(ROOT)).api,
            lambda_runner=context.local_lambda_runner,
            host=host,
            port=port,
            stderr=sys.stderr,
        )
        with service.server(listener) as server:
            announce()
            server.serve_forever()
