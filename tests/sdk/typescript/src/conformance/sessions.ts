// Sessions and all that is of one.

import Anthropic, { toFile } from '@anthropic-ai/sdk';
import { betaTool } from '@anthropic-ai/sdk/helpers/beta/json-schema';
import { accumulateManagedAgentsEvent } from '@anthropic-ai/sdk/lib/sessions/accumulate';

import { LOOKUP, MODEL } from './agents.js';
import { all, cell, ends, holds, ids, refused, same } from './cells.js';

type Accumulated = Parameters<typeof accumulateManagedAgentsEvent>[0];
type SessionParams = Anthropic.Beta.SessionCreateParams;

const say = (text: string) => ({ content: [{ type: 'text', text }] });
const call = (word: string) => ({ content: [{ type: 'tool_use', id: 'toolu_ts', name: 'lookup', input: { word } }] });
/** The message that makes the model give these replies, one a request. */
const replies = (...wanted: object[]) => ({
  type: 'user.message' as const,
  content: [{ type: 'text' as const, text: `reply: ${JSON.stringify(wanted)}` }],
});

export async function session(client: Anthropic, more: Omit<SessionParams, 'agent' | 'environment_id'> = {}) {
  const agent = await client.beta.agents.create({ name: 'Cell', model: MODEL, tools: [LOOKUP] });
  const environment = await client.beta.environments.create({ name: `of ${agent.id}` });
  return client.beta.sessions.create({ agent: agent.id, environment_id: environment.id, ...more });
}

export async function sessions(client: Anthropic): Promise<void> {
  const sessions = client.beta.sessions;
  const vault = (await client.beta.vaults.create({ display_name: 'keys' })).id;
  const made = await session(client, { title: 'cell', metadata: { a: 'b' }, vault_ids: [vault] });
  // What a session has been told to be; its figures grow while one looks.
  const given = ({ id, title, metadata, vault_ids, agent, environment_id }: typeof made) =>
    ({ id, title, metadata, vault_ids, agent, environment_id });
  await cell('beta.sessions.create', async () => {
    same('session', [made.title, made.metadata, made.vault_ids, made.status], ['cell', { a: 'b' }, [vault], 'idle']);
    same('agent', made.agent.name, 'Cell');
  });
  await cell('beta.sessions.retrieve', async () => same('read back', given(await sessions.retrieve(made.id)), given(made)));
  await cell('beta.sessions.update', async () => {
    const changed = await sessions.update(made.id, { title: 'other', metadata: { a: null, c: 'd' } });
    same('changed', [changed.title, changed.metadata], ['other', { c: 'd' }]);
    same('read back', given(await sessions.retrieve(made.id)), given(changed));
  });
  const second = await session(client);
  await cell('beta.sessions.list', async () => {
    const listed = await ids(sessions.list({ limit: 1 }));
    holds('newest first, over pages', listed[0] === second.id && listed.includes(made.id));
    same('of one agent', await ids(sessions.list({ agent_id: made.agent.id, statuses: ['idle'] })), [made.id]);
  });
  await ends('beta.sessions', sessions, second.id, (archived) => ids(sessions.list({ include_archived: archived })));
}

/** Reads a stream to the first event of a type. */
async function until<T extends { type: string }>(stream: AsyncIterable<T>, end: string): Promise<T[]> {
  const seen: T[] = [];
  for await (const event of stream) {
    seen.push(event);
    if (event.type === end) return seen;
  }
  throw new Error(`the stream ended before ${end}`);
}

/** The text of the one message of the agent. */
function answer(events: { type: string }[]): string {
  const messages = events.filter((event) => event.type === 'agent.message');
  same('one message', messages.length, 1);
  const [message] = messages as unknown as [{ content: { text: string }[] }];
  return message.content.map((block) => block.text).join('');
}

export async function events(client: Anthropic): Promise<void> {
  const events = client.beta.sessions.events;
  const made = await session(client);
  const stream = await events.stream(made.id, { event_deltas: ['agent.message'] });
  const sent = await events.send(made.id, { events: [replies(say('Two words.'))] });
  const seen = await until(stream, 'session.status_idle');
  await cell('beta.sessions.events.stream', async () => {
    same('message', answer(seen), 'Two words.');
    const types = new Set(seen.map((event) => event.type));
    holds('previews', types.has('event_start') && types.has('event_delta'));
  });
  await cell('helper: accumulate_managed_agents_event', async () => {
    let snapshot: Accumulated;
    let deltas = 0;
    for (const event of seen) {
      snapshot = accumulateManagedAgentsEvent(snapshot, event);
      if (event.type === 'event_delta') deltas += 1;
      if (event.type === 'agent.message') same('message', snapshot, event);
    }
    holds('deltas', deltas > 0);
  });
  await cell('beta.sessions.events.send', async () => {
    const [stored] = sent.data ?? [];
    same('type', stored?.type, 'user.message');
    same('content', stored && 'content' in stored && stored.content, replies(say('Two words.')).content);
  });
  await cell('beta.sessions.events.list', async () => {
    const listed = await all(events.list(made.id, { limit: 2 }));
    const last = new Map(seen.flatMap((event) => ('id' in event ? [[event.id, event]] : [])));
    for (const event of listed.filter((event) => last.has(event.id))) same('list and stream', event, last.get(event.id));
    same('message', answer(listed), 'Two words.');
    same('backwards', await ids(events.list(made.id, { order: 'desc' })), listed.map((event) => event.id).reverse());
  });
}

export async function threads(client: Anthropic): Promise<void> {
  const { threads, events } = client.beta.sessions;
  const made = await session(client);
  const [primary, ...others] = await all(threads.list(made.id));
  const of = { session_id: made.id };
  const thread = primary?.id ?? '';
  await cell('beta.sessions.threads.list', async () => same('one', [primary?.session_id, others], [made.id, []]));
  await cell('beta.sessions.threads.retrieve', async () => same('read back', await threads.retrieve(thread, of), primary));
  await cell('beta.sessions.threads.events.stream', async () => {
    const stream = await threads.events.stream(thread, of);
    await events.send(made.id, { events: [replies(say('Said.'))] });
    same('message', answer(await until(stream, 'session.thread_status_idle')), 'Said.');
  });
  await cell('beta.sessions.threads.events.list', async () => {
    same('message', answer(await all(threads.events.list(thread, { ...of, limit: 2 }))), 'Said.');
  });
  await cell('beta.sessions.threads.archive', async () => {
    // The one thread there is cannot be archived by itself; the session goes on.
    await refused(400, threads.archive(thread, of));
    same('status', (await threads.retrieve(thread, of)).status, 'idle');
  });
}

export async function sessionResources(client: Anthropic): Promise<void> {
  const resources = client.beta.sessions.resources;
  const url = 'https://github.com/acme/tools';
  const repository = { type: 'github_repository' as const, url, authorization_token: 'cell-secret' };
  const made = await session(client, { resources: [repository] });
  const of = { session_id: made.id };
  const file = await client.beta.files.upload({ file: await toFile(Buffer.from('a'), 'a.txt') });
  const added = await resources.add(made.id, { type: 'file', file_id: file.id, mount_path: '/mnt/data/a.txt' });
  await cell('beta.sessions.resources.add', async () => {
    holds('mount_path', added.type === 'file' && added.mount_path.endsWith('/a.txt'));
    // The session has a copy of its own.
    same('file', (await client.beta.files.retrieveMetadata(added.file_id)).filename, 'a.txt');
  });
  const listed = await all(resources.list(made.id, { limit: 1 }));
  const cloned = listed.find((resource) => resource.type === 'github_repository');
  await cell('beta.sessions.resources.list', async () => {
    same('two', listed.map((resource) => resource.type).sort(), ['file', 'github_repository']);
    same('url', cloned?.url, url);
    holds('no secret', !JSON.stringify(listed).includes('cell-secret'));
  });
  await cell('beta.sessions.resources.retrieve', async () => same('read back', await resources.retrieve(added.id, of), added));
  await cell('beta.sessions.resources.update', async () => {
    const changed = await resources.update(cloned?.id ?? '', { ...of, authorization_token: 'cell-secret-2' });
    same('the same', [changed.type, changed.type === 'github_repository' && changed.url], ['github_repository', url]);
    same('read back', await resources.retrieve(cloned?.id ?? '', of), changed);
    holds('no secret', !JSON.stringify(changed).includes('cell-secret'));
  });
  await cell('beta.sessions.resources.delete', async () => {
    const deleted = await resources.delete(added.id, of);
    same('deleted', [deleted.id, deleted.type], [added.id, 'session_resource_deleted']);
    same('left', (await all(resources.list(made.id))).map((resource) => resource.type), ['github_repository']);
  });
}

/** The helper that answers calls of the client's own tools. */
export async function toolRunner(client: Anthropic): Promise<void> {
  await cell('beta.sessions.events.toolRunner', async () => {
    const events = client.beta.sessions.events;
    const made = await session(client);
    const lookup = betaTool({
      name: 'lookup',
      description: LOOKUP.description,
      inputSchema: { type: 'object', properties: { word: { type: 'string' } }, required: ['word'] },
      run: ({ word }) => `${word} has five fingers`,
    });
    await events.send(made.id, { events: [replies(call('hand'), say('Found.'))] });
    const runner = events.toolRunner(made.id, { tools: [lookup], maxIdleMs: 100 });
    let dispatched = 0;
    for await (const _ of runner) dispatched += 1;
    same('dispatched', dispatched, 1);
    const listed = await all(events.list(made.id));
    const results = listed.filter((event) => event.type === 'user.custom_tool_result');
    same('answer', results.map((event) => event.content), [[{ type: 'text', text: 'hand has five fingers' }]]);
    same('end', answer(listed), 'Found.');
  });
}
