// Required before every program of Node.js in a sandbox: sends `fetch`, `http` and `https` through the proxy that the
// environment names. Of Node's own ways the earlier versions know none, and the later ones (NODE_USE_ENV_PROXY, which is
// left to do it where somebody sets it) leave agents alone that a program makes. Nothing is loaded before it is needed, and a
// program that brings a dispatcher, or agents of classes of its own, keeps them.
'use strict';

const http = require('node:http');
const https = require('node:https');
const net = require('node:net');
const tls = require('node:tls');

const DISPATCHER = Symbol.for('undici.globalDispatcher.1');

const setting = (name) => process.env[name.toLowerCase()] || process.env[name.toUpperCase()] || '';

/** The proxy's address, if there is a plain one. */
function proxyOf(text) {
  try {
    const url = new URL(text);
    return url.protocol === 'http:' ? { host: url.hostname, port: Number(url.port || 80) } : undefined;
  } catch {
    return undefined;
  }
}

/** Whether connections to a host do not go through the proxy. */
function isDirect(host) {
  const name = String(host).toLowerCase().replace(/^\[|\]$/g, '');
  const excepted = setting('NO_PROXY').toLowerCase().split(/[\s,]+/).filter(Boolean);
  return excepted.some((entry) => {
    const suffix = entry.replace(/^\*?\.?/, '');
    return entry === '*' || name === suffix || name.endsWith(`.${suffix}`);
  });
}

const authority = (host, port) => `${net.isIPv6(host) ? `[${host}]` : host}:${port}`;

/** A connection through the proxy to a host, handed to `done` as Node's own functions do. */
function tunnel(proxy, host, port, done) {
  const target = authority(host, port);
  const request = http.request({ ...proxy, method: 'CONNECT', path: target, headers: { host: target }, agent: false });
  request.once('error', done);
  request.once('connect', (response, socket, head) => {
    request.off('error', done);
    if (response.statusCode === 200) {
      done(null, socket);
      return;
    }
    socket.destroy();
    const why = head.toString('utf8', 0, 400).trim();
    done(new Error(`the proxy refused ${target}: ${response.statusCode} ${why || response.statusMessage}`));
  });
  request.end();
}

/** An agent that nobody has changed. */
function isPlain(agent) {
  const made = Object.getPrototypeOf(agent);
  return (made === http.Agent.prototype || made === https.Agent.prototype) && !Object.hasOwn(agent, 'createConnection');
}

function serveAgents(plainProxy, tlsProxy) {
  const addRequest = http.Agent.prototype.addRequest;
  http.Agent.prototype.addRequest = function addRequestToProxy(request, options, ...rest) {
    const host = options.host || 'localhost';
    const isPlainHttp = Object.getPrototypeOf(this) === http.Agent.prototype && isPlain(this);
    if (!plainProxy || !isPlainHttp || request.method === 'CONNECT' || options.socketPath || isDirect(host)) {
      return addRequest.call(this, request, options, ...rest);
    }
    const port = Number(options.port || 80);
    request.path = `http://${port === 80 ? authority(host, 80).slice(0, -3) : authority(host, port)}${request.path}`;
    // Headers that were given as a list are written already.
    if (request._header) {
      request._header = request._header.replace(/^(\S+) \S+/, (_, method) => `${method} ${request.path}`);
    }
    return addRequest.call(this, request, { ...options, ...plainProxy }, ...rest);
  };

  const createConnection = https.Agent.prototype.createConnection;
  https.Agent.prototype.createConnection = function createConnectionByProxy(options, done) {
    const host = options.host || 'localhost';
    if (!tlsProxy || !isPlain(this) || options.socketPath || options.socket || isDirect(host) || !done) {
      return createConnection.apply(this, arguments);
    }
    tunnel(tlsProxy, host, Number(options.port || 443), (error, socket) => {
      if (error) {
        done(error);
      } else {
        done(null, createConnection.call(this, { ...options, socket }));
      }
    });
    return undefined;
  };
}

/** What `fetch` sends requests with, made of the class that this Node.js has inside. */
function dispatcherOf(Agent, plainProxy, tlsProxy) {
  const connect = (options, done) => {
    const { hostname, protocol, servername } = options;
    const port = Number(options.port || (protocol === 'https:' ? 443 : 80));
    const host = hostname.replace(/^\[|\]$/g, '');
    const secure = (connection) => {
      const name = servername || (net.isIP(host) ? '' : host);
      const socket = tls.connect({ ...connection, host, servername: name, ALPNProtocols: ['http/1.1'] });
      socket.once('error', done);
      socket.once('secureConnect', () => {
        socket.off('error', done);
        done(null, socket);
      });
    };
    if (protocol !== 'https:') {
      const socket = net.connect({ host, port, noDelay: true });
      socket.once('error', done);
      socket.once('connect', () => {
        socket.off('error', done);
        done(null, socket);
      });
    } else if (!tlsProxy || isDirect(host)) {
      secure({ port });
    } else {
      tunnel(tlsProxy, host, port, (error, socket) => (error ? done(error) : secure({ socket })));
    }
  };
  return new (class extends Agent {
    dispatch(options, handler) {
      const origin = new URL(options.origin);
      if (origin.protocol !== 'http:' || !plainProxy || isDirect(origin.hostname)) {
        return super.dispatch(options, handler);
      }
      const given = options.headers || {};
      const headers = Array.isArray(given) ? ['host', origin.host, ...given] : { host: origin.host, ...given };
      const proxy = `http://${authority(plainProxy.host, plainProxy.port)}`;
      return super.dispatch({ ...options, headers, origin: proxy, path: origin.origin + options.path }, handler);
    }
  })({ connect });
}

function serveFetch(plainProxy, tlsProxy) {
  const native = globalThis.fetch;
  if (typeof native !== 'function') {
    return;
  }
  let served = false;
  const serve = () => {
    served = true;
    if (globalThis[DISPATCHER] !== undefined) {
      return;
    }
    // Asking for one of its classes loads the client and its own dispatcher, whose class is wanted.
    void globalThis.Headers;
    const usual = globalThis[DISPATCHER];
    if (usual) {
      globalThis[DISPATCHER] = dispatcherOf(usual.constructor, plainProxy, tlsProxy);
    }
  };
  const fetch = function fetch(input, init = undefined) {
    if (!served) {
      serve();
    }
    return native.call(this, input, init);
  };
  Object.defineProperty(globalThis, 'fetch', { configurable: true, enumerable: true, writable: true, value: fetch });
}

const [plainProxy, tlsProxy] = ['HTTP_PROXY', 'HTTPS_PROXY'].map((name) => proxyOf(setting(name)));
const isNative = process.env.NODE_USE_ENV_PROXY && process.allowedNodeEnvironmentFlags.has('--use-env-proxy');
if (!isNative && (plainProxy || tlsProxy)) {
  serveAgents(plainProxy, tlsProxy);
  serveFetch(plainProxy, tlsProxy);
}
