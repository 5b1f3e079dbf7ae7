// Stories of whole turns with the official TypeScript SDK: answers, interrupts, steering, budgets, streams that break.

import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { after, before, describe, test } from 'node:test';

import Anthropic from '@anthropic-ai/sdk';
import { betaTool } from '@anthropic-ai/sdk/helpers/beta/json-schema';
import { accumulateManagedAgentsEvent, type AccumulatedEvent } from '@anthropic-ai/sdk/lib/sessions/accumulate';

import { Postgres } from './postgres.js';
import { Server } from './programs.js';
import { BUILT_IN, Story, bash, blocking, call, custom, every, last } from './stories.js';
import { lastAppearances, message, replies, say, text } from './stories.js';

const bounded = { timeout: 180_000 };
const ASKING = {
  ...BUILT_IN,
  configs: [{ type: 'bash' as const, name: 'bash' as const, permission_policy: { type: 'always_ask' as const } }],
};

function confirm(id: string, answer: { deny?: string } = {}) {
  const allowed = { result: 'allow' as const };
  const verdict = answer.deny === undefined ? allowed : { result: 'deny' as const, deny_message: answer.deny };
  return { type: 'user.tool_confirmation' as const, tool_use_id: id, ...verdict };
}

async function errorCode(refused: Promise<unknown>): Promise<unknown> {
  const error = await refused.then(
    () => assert.fail('it was not refused'),
    (error: unknown) => error,
  );
  assert.ok(error instanceof Anthropic.BadRequestError, String(error));
  return (error.error as { error?: { details?: { error_code?: string } } }).error?.details?.error_code;
}

for (const database of ['sqlite', 'postgres']) describe(database, () => stories(database));

function stories(database: string): void {
  let postgres: Postgres | undefined;
  let server: Server;

  before(async () => {
    postgres = database === 'postgres' ? new Postgres() : undefined;
    server = await Server.start('told', postgres && { MANYHANDS_DATABASE_URL: postgres.url });
  });

  after(async () => {
    const client = new Anthropic({ baseURL: server.url, apiKey: server.key });
    for await (const session of client.beta.sessions.list({ include_archived: true })) {
      await client.beta.sessions.delete(session.id);
    }
    await server.remove();
    postgres?.remove();
  });

  test('ST-10, ST-11: deltas accumulate to the message', bounded, async () => {
    const story = await Story.begin(server);
    const came = await story.turn(replies(say('Here I am, word by word.', { split_into: 5 })));
    const whole = last(came, 'agent.message');
    let snapshot: AccumulatedEvent | undefined;
    let fragments = 0;
    for (const item of came) {
      snapshot = accumulateManagedAgentsEvent(snapshot, item);
      if (item.type === 'event_delta') {
        fragments += 1;
        assert.ok(snapshot && text(whole.content).startsWith(text(snapshot.content)));
      }
    }
    assert.ok(fragments > 0);
    assert.deepEqual(snapshot, whole);
    await story.checkListEqualsStream();
    await story.close();
  });

  test('SQ-10, SQ-9: the tool runner of the SDK answers custom tools beside built-in ones', bounded, async () => {
    const story = await Story.begin(server, [BUILT_IN, custom('lookup')]);
    const lookup = betaTool({
      name: 'lookup',
      description: 'Looks a word up.',
      inputSchema: { type: 'object', properties: { word: { type: 'string' } }, required: ['word'] },
      run: ({ word }) => {
        if (word === 'trouble') throw new Error('no such word');
        return `${word} has five fingers`;
      },
    });
    const calls = call([['lookup', { word: 'hand' }], bash('echo beside it'), ['lookup', { word: 'trouble' }]]);
    await story.send(replies(calls, say('Found.')));
    const posted = new Map<string, boolean>();
    const runner = story.client.beta.sessions.events.toolRunner(story.id, { tools: [lookup], maxIdleMs: 100 });
    for await (const dispatched of runner) {
      if (dispatched.posted) posted.set(dispatched.toolUseId, dispatched.isError);
    }
    const listed = await story.listed();
    assert.deepEqual(
      every(listed, 'agent.custom_tool_use').map((use) => posted.get(use.id)),
      [false, true],
    );
    assert.deepEqual(
      every(listed, 'user.custom_tool_result').flatMap((result) => (result.is_error ? [] : [text(result.content)])),
      ['hand has five fingers'],
    );
    assert.equal(text(last(listed, 'agent.tool_result').content).trim(), 'beside it');
    assert.equal(text(last(listed, 'agent.message').content), 'Found.');
    await story.close();
  });

  test('SQ-7, SQ-8, SQ-9, TC-7: allow, deny with a message, a mixed batch, partial answers', bounded, async () => {
    const story = await Story.begin(server, [ASKING, custom('lookup')]);
    const batch = call([bash('echo one'), ['lookup', { word: 'hand' }], bash('echo two')]);
    const came = await story.turn(replies(batch, say('I see.')));
    const [one, two] = every(came, 'agent.tool_use');
    const use = last(came, 'agent.custom_tool_use');
    assert.ok(one && two);
    assert.deepEqual([one.evaluated_permission, one.evaluation?.type], ['ask', 'always_ask']);
    assert.deepEqual(blocking(came), [one.id, use.id, two.id]);

    assert.deepEqual(blocking(await story.turn(confirm(one.id))), [use.id, two.id]);
    const content = [{ type: 'text' as const, text: 'five fingers' }];
    const answer = { type: 'user.custom_tool_result' as const, custom_tool_use_id: use.id, content };
    assert.deepEqual(blocking(await story.turn(answer)), [two.id]);
    await assert.rejects(story.send({ ...confirm(two.id), deny_message: 'but' }), Anthropic.BadRequestError);
    const rest = await story.turn(confirm(two.id, { deny: 'One is enough.' }));
    const results = new Map(every(rest, 'agent.tool_result').map((result) => [result.tool_use_id, result]));
    assert.deepEqual([text(results.get(one.id)?.content).trim(), results.get(one.id)?.is_error], ['one', false]);
    assert.equal(results.get(two.id)?.is_error, true);
    assert.match(text(results.get(two.id)?.content), /One is enough\./);
    assert.equal(text(last(rest, 'agent.message').content), 'I see.');
    await story.checkListEqualsStream();
    await story.close();
  });

  test('SQ-11, SE-6, IN-5: an interrupt cuts the model, the message with it opens the next turn', bounded, async () => {
    const story = await Story.begin(server);
    await story.send(replies(say('Half a thought', { split_into: 3, hold: true })));
    const cut = last(await story.until('event_delta'), 'event_delta');
    await story.send({ type: 'user.interrupt' }, replies(say('The next turn.')));
    const first = await story.until('session.status_idle');
    assert.equal(last(first, 'session.status_idle').stop_reason.type, 'end_turn');
    assert.deepEqual(every(first, 'agent.message'), []);
    assert.ok(last(first, 'user.interrupt').processed_at);
    assert.ok(!lastAppearances(first).some((event) => event.id === cut.event_id));
    const second = await story.until('session.status_idle');
    assert.equal(text(last(second, 'agent.message').content), 'The next turn.');
    await story.checkListEqualsStream();
    await story.close();
  });

  test('SE-5, SE-8, SE-9: steering and a system message join the turn at its next request', bounded, async () => {
    const story = await Story.begin(server);
    const gate = randomUUID();
    await story.send(replies(call([bash(`echo ${gate}`)], { gate }), say('Turning left.')));
    await story.until('span.model_request_start');
    const content = [{ type: 'text' as const, text: 'Signal before you turn.' }];
    const system = { type: 'system.message' as const, content };
    const stored = await story.send(message('Turn left.'), system);
    assert.deepEqual(
      stored.map((event) => event.processed_at),
      [null, null],
    );
    await server.openGate(gate);
    const came = await story.until('session.status_idle');
    assert.equal(text(last(came, 'agent.message').content), 'Turning left.');
    assert.equal(every(story.seen, 'session.status_running').length, 1);
    const asked = (await server.lastAsked(gate)).messages.slice(-2);
    assert.deepEqual(
      asked.map((turn) => turn.role),
      ['user', 'system'],
    );
    assert.match(JSON.stringify(asked[0]), /tool_result.*Turn left\./);
    await story.checkListEqualsStream();
    await story.close();
  });

  test('scenario 11: a budget of one cent; BU-3, BU-4, BU-6, BU-9, BU-10, IN-9, SQ-16', bounded, async () => {
    const budget = (amount: string) => ({ type: 'limit' as const, max_list_cost: { amount, currency: 'USD' as const } });
    const story = await Story.begin(server, [custom('lookup')], { budget: budget('1') });
    // 400 tokens of output at $25 a million are exactly one cent.
    const dear = call([['lookup', { word: 'hand' }]], { usage: { output_tokens: 400 } });
    const use = last(await story.turn(replies(dear, say('Found.'), say('More.'))), 'agent.custom_tool_use');
    await story.send({ type: 'user.custom_tool_result', custom_tool_use_id: use.id });
    const paused = await story.until('session.status_idle');
    assert.deepEqual(
      paused.slice(-3).map((event) => event.type),
      ['session.thread_status_idle', 'session.usage', 'session.status_idle'],
    );
    assert.equal(last(paused, 'session.status_idle').stop_reason.type, 'budget_reached');
    assert.equal(last(paused, 'session.usage').usage.list_cost?.amount, '1');

    const before = await story.listed();
    await assert.rejects(story.send(message('More.')), /user\.tool_confirmation/);
    await story.send({ type: 'user.interrupt' });
    assert.deepEqual(await story.listed(), before);
    const { sessions } = story.client.beta;
    const update = (cap: ReturnType<typeof budget> | null) => sessions.update(story.id, { budget: cap });
    assert.equal(await errorCode(update(budget('1'))), 'budget_not_raised');
    await update(budget('50'));
    assert.equal(text(last(await story.until('session.status_idle'), 'agent.message').content), 'Found.');
    assert.equal((await update(null)).budget, null);
    assert.equal(await errorCode(update(budget('100'))), 'budget_create_only');
    assert.equal(text(last(await story.turn(message('And?')), 'agent.message').content), 'More.');
    await story.checkListEqualsStream();
    await story.close();
  });

  test('ST-1, ST-2: a client that comes back consolidates the list and its new stream', bounded, async () => {
    const story = await Story.begin(server, [custom('lookup')]);
    const came = await story.turn(replies(call([['lookup', { word: 'a' }]]), say('Done.')));
    const use = last(came, 'agent.custom_tool_use');
    await story.close();
    await story.send({ type: 'user.custom_tool_result', custom_tool_use_id: use.id });
    const stream = await story.client.beta.sessions.events.stream(story.id);
    const known = new Map(story.seen.flatMap((item) => ('id' in item ? [[item.id, item as object]] : [])));
    for (const event of await story.listed()) known.set(event.id, event);
    await story.send(message('One more.'));
    for await (const event of stream) {
      if (!('id' in event)) continue;
      known.set(event.id, event);
      if (event.type === 'session.status_idle' && (await story.listed()).at(-1)?.id === event.id) break;
    }
    const listed = await story.listed();
    assert.deepEqual(
      listed.map((event) => known.get(event.id)),
      listed,
    );
    assert.equal(known.size, listed.length);
  });

  test('Last-Event-ID goes on without gap or double', bounded, async () => {
    const story = await Story.begin(server);
    await story.turn(replies(call([bash('echo once')]), say('Done.')));
    const whole = lastAppearances(story.seen).length;
    const resumed: string[] = [];
    const headers = { 'Last-Event-ID': '3' };
    const stream = await story.client.beta.sessions.events.stream(story.id, {}, { headers });
    for await (const event of stream) {
      resumed.push(event.type);
      if (event.type === 'session.status_idle') break;
    }
    const all = story.seen.filter((item) => item.type !== 'event_start' && item.type !== 'event_delta');
    assert.deepEqual(resumed, all.slice(3).map((event) => event.type));
    assert.equal(whole, all.length - 1);
    await story.close();
  });

  test('ST-6, ST-7: the primary thread lists and streams like its session', bounded, async () => {
    const story = await Story.begin(server);
    const threads = story.client.beta.sessions.threads;
    const [thread] = (await threads.list(story.id)).data;
    assert.ok(thread);
    assert.deepEqual(await threads.retrieve(thread.id, { session_id: story.id }), thread);
    const stream = await threads.events.stream(thread.id, { session_id: story.id, event_deltas: ['agent.message'] });
    const came = await story.turn(replies(say('From the thread.', { split_into: 3 })));
    const seen: string[] = [];
    for await (const item of stream) {
      seen.push(item.type);
      if (item.type === 'session.status_idle') break;
    }
    assert.deepEqual(seen, came.map((item) => item.type));
    const listed: object[] = [];
    for await (const event of threads.events.list(thread.id, { session_id: story.id })) listed.push(event);
    assert.deepEqual(listed, await story.listed());
    await story.close();
  });

  test('LC-8, LC-9, UP-3, UP-4, UP-7: overrides, an update with its snapshot, archive', bounded, async () => {
    const story = await Story.begin(server);
    const sessions = story.client.beta.sessions;
    const made = await sessions.create({
      agent: { type: 'agent_with_overrides', id: story.reference.agent, system: 'Be brief.', tools: [custom('lookup')] },
      environment_id: story.reference.environment_id,
    });
    assert.deepEqual([made.agent.id, made.agent.version, made.agent.system], [story.reference.agent, 1, 'Be brief.']);
    assert.deepEqual(made.agent.tools.map((tool) => tool.type), ['custom']);
    const updated = await sessions.update(story.id, { agent: { tools: [ASKING] }, title: 'New' });
    const event = last(await story.until('session.updated'), 'session.updated');
    assert.deepEqual([event.title, event.agent], ['New', updated.agent]);
    const came = await story.turn(replies(call([bash('echo asked')]), say('Done.')));
    assert.equal(last(came, 'agent.tool_use').evaluated_permission, 'ask');
    assert.equal((await sessions.archive(story.id)).status, 'terminated');
    await story.until('session.status_terminated');
    await assert.rejects(story.send(message('Too late.')), Anthropic.BadRequestError);
    await story.checkListEqualsStream();
    await story.close();
  });
}
