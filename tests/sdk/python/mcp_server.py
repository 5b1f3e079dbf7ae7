"""An office with tools, made with the official Python package of MCP. It says its port, and writes down what is sent.

Usage: mcp_server.py LETTERS. It serves streamable HTTP on this machine at a port of its own.
"""

import socket
import sys

import uvicorn
from mcp.server.mcpserver import MCPServer
from mcp.server.mcpserver.exceptions import ToolError

server = MCPServer("office")


@server.tool()
def send(letter: str) -> str:
    """Sends a letter."""
    with open(sys.argv[1], "a") as letters:
        letters.write(f"{letter}\n")
    return f"sent {letter}"


@server.tool(structured_output=False)
def long(characters: int) -> str:
    """Says so many characters."""
    return ("0123456789" * (characters // 10 + 1))[:characters]


@server.tool()
def fail() -> str:
    """Fails."""
    raise ToolError("out of stamps")


def main() -> None:
    listener = socket.create_server(("127.0.0.1", 0))
    print(listener.getsockname()[1], flush=True)
    app = server.streamable_http_app()
    uvicorn.Server(uvicorn.Config(app, log_level="warning")).run(sockets=[listener])


main()
