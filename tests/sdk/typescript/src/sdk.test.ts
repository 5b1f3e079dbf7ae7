// The official TypeScript SDK, unmodified, against the real server. The compiler checks every member that is read
// here against the SDK's own types; the shapes of whole answers are checked by the strict Python client next door.

import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';

import Anthropic from '@anthropic-ai/sdk';

import { Server } from './programs.js';
import { MODEL, type StreamItem, last, lastAppearances, text } from './stories.js';

const bounded = { timeout: 180_000 };

let server: Server;
let client: Anthropic;
let requests: string[] = [];

before(async () => {
  server = await Server.start();
  client = new Anthropic({
    baseURL: server.url,
    apiKey: server.key,
    timeout: 30_000,
    // Every request that really goes out, retries included.
    fetch: (input, init) => {
      requests.push(`${init?.method ?? 'GET'} ${new URL(String(input)).pathname}`);
      return fetch(input, init);
    },
  });
});

after(async () => {
  for await (const session of client.beta.sessions.list({ include_archived: true })) {
    await client.beta.sessions.delete(session.id);
  }
  await server.remove();
});

async function start() {
  const agent = await client.beta.agents.create({
    name: 'Acceptance',
    model: MODEL,
    tools: [{ type: 'agent_toolset_20260401' }],
  });
  const environment = await client.beta.environments.create({ name: `acceptance ${agent.id}` });
  const session = await client.beta.sessions.create({ agent: agent.id, environment_id: environment.id });
  return { agent, environment, session };
}

function prompt(command: string): Anthropic.Beta.Sessions.EventSendParams {
  return { events: [{ type: 'user.message', content: [{ type: 'text', text: `Please run: ${command}` }] }] };
}

/** Opens the stream, sends, and reads to the end of the turn: everything that was on the stream. */
async function takeTurn(session: string, command: string, how: Anthropic.Beta.Sessions.EventStreamParams = {}) {
  const seen: StreamItem[] = [];
  const stream = await client.beta.sessions.events.stream(session, how);
  await client.beta.sessions.events.send(session, prompt(command));
  for await (const event of stream) {
    seen.push(event);
    if (event.type === 'session.status_idle') return seen;
  }
  throw new Error(`the stream ended early, after ${seen.map((event) => event.type)}`);
}

async function collect<T>(pages: AsyncIterable<T>): Promise<T[]> {
  const all: T[] = [];
  for await (const item of pages) all.push(item);
  return all;
}

test('a turn with a real bash call, and list equals stream', bounded, async () => {
  const { agent, session } = await start();
  assert.deepEqual([agent.version, session.status, session.agent.version], [1, 'idle', 1]);

  const seen = await takeTurn(session.id, 'echo out of $((6 * 7)); pwd');

  // runtime SQ-2, SQ-17, SQ-18: the exact order of a turn with one tool call.
  assert.deepEqual(
    lastAppearances(seen).map((event) => event.type),
    [
      'session.thread_status_running',
      'session.status_running',
      'user.message',
      'span.model_request_start',
      'agent.tool_use',
      'span.model_request_end',
      'agent.tool_result',
      'span.model_request_start',
      'agent.message',
      'span.model_request_end',
      'session.thread_status_idle',
      'session.usage',
      'session.status_idle',
    ],
  );
  const call = last(seen, 'agent.tool_use');
  const result = last(seen, 'agent.tool_result');
  assert.deepEqual([call.name, call.evaluated_permission], ['bash', 'allow']);
  assert.deepEqual([result.tool_use_id, result.is_error], [call.id, false]);
  assert.deepEqual(text(result.content).trim().split(/\s+/), ['out', 'of', '42', '/workspace']);
  assert.match(text(last(seen, 'agent.message').content), /^done: out of 42/);
  assert.equal(last(seen, 'session.status_idle').stop_reason.type, 'end_turn');

  const listed = await collect(client.beta.sessions.events.list(session.id));
  assert.deepEqual(listed, lastAppearances(seen));
  assert.deepEqual(await collect(client.beta.sessions.events.list(session.id, { limit: 2 })), listed);
  assert.deepEqual(
    await collect(client.beta.sessions.events.list(session.id, { types: ['agent.tool_use', 'agent.tool_result'] })),
    [call, result],
  );
});

test('previews are a prefix of the message', bounded, async () => {
  const { session } = await start();
  const seen = await takeTurn(session.id, 'echo previewed', { event_deltas: ['agent.message'] });
  const message = last(seen, 'agent.message');
  assert.equal(last(seen, 'event_start').event.id, message.id);
  const fragments = seen.flatMap((item) => (item.type === 'event_delta' ? [text([item.delta.content])] : []));
  assert.ok(fragments.length > 0);
  assert.ok(text(message.content).startsWith(fragments.join('')));
});

test('an update makes version 2 while the running session keeps 1', bounded, async () => {
  const { agent, environment, session } = await start();
  const stream = await client.beta.sessions.events.stream(session.id);
  // The sandboxed reader waits for a writer that never comes, so the session runs until it is interrupted.
  await client.beta.sessions.events.send(session.id, prompt('mkfifo gate && cat gate'));
  const seen: StreamItem[] = [];
  for await (const event of stream) {
    seen.push(event);
    if (event.type === 'agent.tool_use') {
      const updated = await client.beta.agents.update(agent.id, { version: 1, system: 'Be brief.' });
      assert.deepEqual([updated.version, updated.system], [2, 'Be brief.']);
      const running = await client.beta.sessions.retrieve(session.id);
      assert.deepEqual([running.status, running.agent.version, running.agent.system], ['running', 1, null]);
      await client.beta.sessions.events.send(session.id, { events: [{ type: 'user.interrupt' }] });
    }
    if (event.type === 'session.status_idle') break;
  }
  assert.deepEqual(last(seen, 'agent.tool_result').is_error, true);
  assert.equal(last(seen, 'session.status_idle').stop_reason.type, 'end_turn');

  const versions = await collect(client.beta.agents.versions.list(agent.id));
  assert.deepEqual(
    versions.map((version) => version.version),
    [2, 1],
  );
  const pinned = await client.beta.sessions.create({
    agent: { type: 'agent', id: agent.id, version: 1 },
    environment_id: environment.id,
  });
  assert.deepEqual([pinned.agent.version, pinned.agent.system], [1, null]);
});

test('a wrong version gets 409 after exactly one request', bounded, async () => {
  const { agent } = await start();
  await client.beta.agents.update(agent.id, { version: 1, name: 'Renamed' });
  requests = [];
  await assert.rejects(client.beta.agents.update(agent.id, { version: 1, name: 'Renamed again' }), (error: unknown) => {
    assert.ok(error instanceof Anthropic.ConflictError);
    assert.equal(error.headers?.get('x-should-retry'), 'false');
    assert.match(error.requestID ?? '', /^req_/);
    return true;
  });
  assert.deepEqual(requests, [`POST /v1/agents/${agent.id}`]);
  assert.equal((await client.beta.agents.retrieve(agent.id)).name, 'Renamed');
});

test('resources are an empty list', bounded, async () => {
  const { session } = await start();
  const page = await client.beta.sessions.resources.list(session.id);
  assert.deepEqual([page.data, page.next_page], [[], null]);
});

test('archive and delete', bounded, async () => {
  const { agent, environment, session } = await start();
  await takeTurn(session.id, 'echo before the end');
  const archived = await client.beta.sessions.archive(session.id);
  assert.equal(archived.status, 'terminated');
  assert.ok(archived.archived_at);
  await assert.rejects(client.beta.sessions.events.send(session.id, prompt('echo late')), Anthropic.BadRequestError);

  const stream = await client.beta.sessions.events.stream(session.id);
  const deleted = await client.beta.sessions.delete(session.id);
  assert.deepEqual([deleted.id, deleted.type], [session.id, 'session_deleted']);
  assert.deepEqual(
    (await collect(stream)).map((event) => event.type),
    ['session.deleted'],
  );
  await assert.rejects(client.beta.sessions.retrieve(session.id), Anthropic.NotFoundError);
  assert.ok((await client.beta.agents.archive(agent.id)).archived_at);
  assert.ok((await client.beta.environments.archive(environment.id)).archived_at);
  assert.equal((await client.beta.environments.delete(environment.id)).type, 'environment_deleted');
});
