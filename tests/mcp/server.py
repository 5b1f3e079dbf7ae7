"""A server made with the official Python SDK: tools of all kinds, over the transport that is named.

Usage: server.py streamable|stateless|json|sse. It listens on this machine at a port of its own, which it says. Where
MCP_TOKEN is set, requests without that bearer token are refused.
"""

import asyncio
import os
import sys

import uvicorn
from mcp.server.mcpserver import Context, Image, MCPServer
from mcp.server.mcpserver.exceptions import ToolError

# One white pixel.
PIXEL = bytes.fromhex(
    "89504e470d0a1a0a0000000d49484452000000010000000108000000003a7e9b550"
    "000000a49444154789c63f80f0001010100b138f6140000000049454e44ae426082"
)

server = MCPServer("peer")


@server.tool()
def add(a: int, b: int) -> int:
    """Adds two numbers."""
    return a + b


@server.tool()
def fail() -> str:
    """Fails."""
    raise ToolError("this tool fails")


@server.tool()
def picture() -> Image:
    """Shows a picture."""
    return Image(data=PIXEL, format="png")


@server.tool()
async def progress(ctx: Context) -> str:
    """Tells how far it is, and then that it is done."""
    for step in range(20):
        await ctx.report_progress(step, 20)
    return "done"


@server.tool()
async def forever() -> str:
    """Never answers."""
    await asyncio.Event().wait()
    return "never"


def guarded(app, token):
    async def guard(scope, receive, send):
        if scope["type"] == "http":
            sent = dict(scope["headers"]).get(b"authorization", b"").decode()
            if sent != f"Bearer {token}":
                await send({"type": "http.response.start", "status": 401, "headers": []})
                await send({"type": "http.response.body", "body": b"no"})
                return
        await app(scope, receive, send)

    return guard


def main():
    match sys.argv[1]:
        case "sse":
            app = server.sse_app()
        case kind:
            app = server.streamable_http_app(json_response=kind == "json", stateless_http=kind == "stateless")
    token = os.environ.get("MCP_TOKEN")
    if token:
        app = guarded(app, token)
    uvicorn.run(app, host="127.0.0.1", port=0, log_level="info")


main()
