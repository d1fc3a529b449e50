"""An app for `wasi:http/proxy` in Python.

GET says hello and the path that was asked for; POST sends the body back as it comes in; another method gets 405.
"""

from componentize_py_types import Err, Ok
from wit_world import exports
from wit_world.imports import streams
from wit_world.imports.types import (
    Fields,
    IncomingBody,
    IncomingRequest,
    Method_Get,
    Method_Post,
    OutgoingBody,
    OutgoingResponse,
    ResponseOutparam,
)

# The most that `blocking_write_and_flush` takes at once.
WRITE_MAX = 4096


class IncomingHandler(exports.IncomingHandler):
    def handle(self, request: IncomingRequest, response_out: ResponseOutparam) -> None:
        match request.method():
            case Method_Get():
                body = begin(response_out, 200)
                path = request.path_with_query() or "/"
                finish(body, [f"hello from python: {path}\n".encode()])
            case Method_Post():
                body = begin(response_out, 200)
                finish(body, pieces(request.consume()))
            case _:
                finish(begin(response_out, 405), [b"only GET and POST\n"])


def begin(response_out: ResponseOutparam, status: int) -> OutgoingBody:
    response = OutgoingResponse(Fields.from_list([("content-type", b"text/plain")]))
    response.set_status_code(status)
    body = response.body()
    ResponseOutparam.set(response_out, Ok(response))
    return body


def finish(body: OutgoingBody, parts) -> None:
    with body.write() as stream:
        for part in parts:
            stream.blocking_write_and_flush(part)
    OutgoingBody.finish(body, None)


def pieces(body: IncomingBody):
    """The body in pieces that one write takes, until it ends."""
    with body.stream() as stream:
        while True:
            try:
                yield stream.blocking_read(WRITE_MAX)
            except Err as error:
                if isinstance(error.value, streams.StreamError_Closed):
                    return
                raise
