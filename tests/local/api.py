"""SAM CLI's API server with the routes of ``template.yaml``, and :mod:`.environments` in place of containers.

SAM CLI routes requests, builds events and reads responses. Runs in SAM CLI's virtual environment.
"""

import argparse
import json
import logging
import socket
import sys
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

from samcli.commands.local.cli_common.invoke_context import InvokeContext
from samcli.lib.providers.api_provider import ApiProvider
from samcli.local.apigw.event_constructor import construct_v2_event_http
from samcli.local.apigw.local_apigw_service import CatchAllPathConverter, LocalApigwService

from tests.local import account, emulator, environments, processes
from tests.local.console import Console
from tests.local.environments import Environments, configuration_error
from tests.local.server import Server
from tests.local.template import ROOT, TEMPLATE_FILE

_DEFAULT_ROUTE = "/<path:any_path>:GET"


class _Runtime:
    """Runs the functions for SAM CLI."""

    def __init__(self, environments: Environments) -> None:
        self._environments = environments

    def invoke(self, function_config: Any, event: str, *_: Any, stdout: Any, **__: Any) -> None:
        result = self._environments.invoke(function_config.name, event)
        if error := configuration_error(result):
            headers = {"Content-Type": "application/json", "Cache-Control": "no-store", "Retry-After": "1"}
            result = json.dumps({"statusCode": 503, "headers": headers, "body": json.dumps({"error": error})})
        stdout.write_str(result)


class _Context(InvokeContext):  # type: ignore[misc]  # samcli has no types
    """SAM CLI's view of the template, without containers and account."""

    def __init__(self, environments: Environments) -> None:
        super().__init__(template_file=str(TEMPLATE_FILE))
        self._runtime = _Runtime(environments)

    @property
    def lambda_runtime(self) -> _Runtime:
        return self._runtime

    @staticmethod
    def _get_container_manager(*args: Any) -> None:
        """Return none; SAM CLI's own method requires Docker."""

    def _add_account_id_to_global(self) -> None:
        """Do nothing; SAM CLI's own method calls AWS."""


class _Service(LocalApigwService):  # type: ignore[misc]  # samcli has no types
    """SAM CLI's API server, corrected to behave like API Gateway.

    API Gateway gives every request an id and a time; SAM CLI uses those of the server's start. API Gateway decodes
    every escape in path parameters except ``%25``; SAM CLI decodes that one, too. API Gateway encodes a
    body that is not UTF-8 in base64, and accepts HEAD and the header ``X-Amz-Tenant-Id``; SAM CLI fails. API Gateway
    distinguishes ``/score``, ``/score/`` and ``//score``, and invokes ``$default`` if no route matches; SAM CLI treats
    them as one path and redirects ``/a//b`` to ``/a/b``.
    """

    def create(self) -> None:
        # Parameters that match slashes, too; those of SAM CLI match no line break.
        CatchAllPathConverter.regex = "(?s:.+)"
        super().create()
        self._app.url_map.merge_slashes = False
        for rule in self._app.url_map.iter_rules():
            rule.strict_slashes = True
            rule.merge_slashes = False
        for status in (404, 405):
            self._app.register_error_handler(status, lambda _: self._request_handler())

    def _get_current_route(self, flask_request: Any) -> Any:
        # Werkzeug ignores leading slashes when it matches routes.
        if _path(flask_request).startswith("//"):
            return self._dict_of_routes[_DEFAULT_ROUTE]
        try:
            return super()._get_current_route(flask_request)
        except KeyError:
            return self._dict_of_routes[_DEFAULT_ROUTE]

    def _invoke_lambda_function(self, lambda_function_name: str, event: dict[str, Any], *_: Any, **__: Any) -> Any:
        """Omit the tenant id, which SAM CLI reads from a header and then rejects."""
        return super()._invoke_lambda_function(lambda_function_name, event)

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
        event["rawPath"] = event["requestContext"]["http"]["path"] = _path(flask_request)
        if parameters := event.get("pathParameters"):
            event["pathParameters"] = {name: value.replace("%", "%25") for name, value in parameters.items()}
        now = time.time()
        event["requestContext"] |= {
            "requestId": str(uuid.uuid4()),
            "time": time.strftime("%d/%b/%Y:%H:%M:%S +0000", time.gmtime(now)),
            "timeEpoch": int(now * 1000),
        }
        return event

    def server(self, listener: socket.socket, console: Console) -> Server:
        """Return an HTTP server for a listening socket."""
        self.create()
        return Server(listener, self._app, console)


def _path(flask_request: Any) -> str:
    """Return the path of a request with all its leading slashes, which Flask collapses."""
    path: str = flask_request.environ["PATH_INFO"]
    return path.encode("latin-1").decode()


def serve(listener: socket.socket, environments: Environments, console: Console, announce: Callable[[], None]) -> None:
    """Serve the API of the template until interrupted; call ``announce`` just before."""
    # SAM CLI warns about the JWT authorizer, although its condition is false.
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
        with service.server(listener, console) as server:
            announce()
            server.serve_forever()


def main() -> None:
    """Serve the API in front of a running emulator until interrupted; ``make stream`` starts this command."""
    parser = argparse.ArgumentParser(description="The API of the template, in front of a running emulator.")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--emulator", required=True, help="address of the emulator")
    parser.add_argument("--layer", type=Path, required=True, help="folder of the layer")
    parser.add_argument("--logs", default="text")
    arguments = parser.parse_args()
    account.replace()
    console = Console(arguments.logs)
    with (
        processes.command(),
        processes.listening("127.0.0.1", arguments.port) as listener,
        environments.running(
            emulator.variables(arguments.emulator), console=console, layer=arguments.layer
        ) as functions,
    ):
        serve(listener, functions, console, announce=lambda: None)


if __name__ == "__main__":
    main()
