// What the stories share: the model's replies as messages dictate them, and one session with its stream.

import assert from 'node:assert/strict';

import Anthropic from '@anthropic-ai/sdk';

import type { Server } from './programs.js';

export type StreamItem = Anthropic.Beta.Sessions.BetaManagedAgentsStreamSessionEvents;
export type SessionEvent = Anthropic.Beta.Sessions.BetaManagedAgentsSessionEvent;
export type ToSend = Anthropic.Beta.Sessions.EventSendParams['events'][number];
type Tools = NonNullable<Anthropic.Beta.AgentCreateParams['tools']>;
type Create = Partial<Anthropic.Beta.SessionCreateParams>;

export const MODEL = 'claude-opus-4-8';
export const BUILT_IN = { type: 'agent_toolset_20260401' } as const;

/** A reply of the model. */
export interface Reply {
  content: object[];
  usage?: { output_tokens: number };
  split_into?: number;
  hold?: boolean;
  gate?: string;
}

export function say(text: string, more: Partial<Reply> = {}): Reply {
  return { content: [{ type: 'text', text }], ...more };
}

/** Tool calls, each a name and an input; in one conversation no two of them may be equal. */
export function call(calls: [string, object][], more: Partial<Reply> = {}): Reply {
  const content = calls.map(([name, input]) => {
    const id = `toolu_${Buffer.from(name + JSON.stringify(input)).toString('hex').slice(-40)}`;
    return { type: 'tool_use', id, name, input };
  });
  return { content, ...more };
}

export function bash(command: string): [string, object] {
  return ['bash', { command }];
}

export function message(text: string): ToSend {
  return { type: 'user.message', content: [{ type: 'text', text }] };
}

/** The message that makes the model give these replies, one a request. */
export function replies(...wanted: Reply[]): ToSend {
  return message(`reply: ${JSON.stringify(wanted)}`);
}

export function custom(name: string): Tools[number] {
  const input_schema = { type: 'object' as const, properties: { word: { type: 'string' } } };
  return { type: 'custom', name, description: `Does ${name}.`, input_schema };
}

/** A client's event is on the stream twice, when it is stored and when it is processed; the second one counts. */
export function lastAppearances(items: StreamItem[]): SessionEvent[] {
  const events = items.filter((item) => item.type !== 'event_start' && item.type !== 'event_delta') as SessionEvent[];
  const last = new Map(events.map((event, place) => [event.id, place]));
  return events.filter((event, place) => last.get(event.id) === place);
}

export function every<T extends StreamItem['type']>(items: StreamItem[], type: T): Extract<StreamItem, { type: T }>[] {
  return items.filter((item): item is Extract<StreamItem, { type: T }> => item.type === type);
}

export function last<T extends StreamItem['type']>(items: StreamItem[], type: T): Extract<StreamItem, { type: T }> {
  const found = every(items, type).at(-1);
  assert.ok(found, `no ${type} among ${items.map((item) => item.type)}`);
  return found;
}

export function text(content: ReadonlyArray<{ type: string }> | null | undefined): string {
  return (content ?? []).map((block) => ('text' in block ? String(block.text) : '')).join('');
}

/** The calls that a rest waits for. */
export function blocking(items: StreamItem[]): string[] {
  const reason = last(items, 'session.status_idle').stop_reason;
  assert.equal(reason.type, 'requires_action');
  return reason.type === 'requires_action' ? reason.event_ids : [];
}

/** One session, its stream, and all that was on it. */
export class Story {
  readonly seen: StreamItem[] = [];

  private constructor(
    readonly client: Anthropic,
    readonly id: string,
    readonly reference: { agent: string; environment_id: string },
    private readonly stream: AsyncIterator<StreamItem>,
  ) {}

  static async begin(server: Server, tools: Tools = [BUILT_IN], more: Create = {}): Promise<Story> {
    const client = new Anthropic({ baseURL: server.url, apiKey: server.key, timeout: 30_000 });
    const agent = await client.beta.agents.create({ name: 'Story', model: MODEL, tools });
    const environment = await client.beta.environments.create({ name: `story of ${agent.id}` });
    const reference = { agent: agent.id, environment_id: environment.id };
    const session = await client.beta.sessions.create({ ...more, ...reference });
    const stream = await client.beta.sessions.events.stream(session.id, { event_deltas: ['agent.message'] });
    return new Story(client, session.id, reference, stream[Symbol.asyncIterator]());
  }

  async send(...events: ToSend[]): Promise<SessionEvent[]> {
    const sent = await this.client.beta.sessions.events.send(this.id, { events });
    return (sent.data ?? []) as SessionEvent[];
  }

  /** Reads the stream to the next event of a type; gives what came on the way, that event last. */
  async until(type: StreamItem['type']): Promise<StreamItem[]> {
    const came: StreamItem[] = [];
    for (;;) {
      const { value, done } = await this.stream.next();
      if (done) throw new Error(`the stream ended before ${type}, after ${came.map((item) => item.type)}`);
      this.seen.push(value);
      came.push(value);
      if (value.type === type) return came;
    }
  }

  /** Sends events and reads to the session's next rest. */
  async turn(...events: ToSend[]): Promise<StreamItem[]> {
    await this.send(...events);
    return this.until('session.status_idle');
  }

  async listed(): Promise<SessionEvent[]> {
    const all: SessionEvent[] = [];
    for await (const event of this.client.beta.sessions.events.list(this.id)) all.push(event);
    return all;
  }

  /** runtime LI-5: the list is the last appearance of each event on the stream, in that order. */
  async checkListEqualsStream(): Promise<void> {
    assert.deepEqual(await this.listed(), lastAppearances(this.seen));
  }

  async close(): Promise<void> {
    await this.stream.return?.();
  }
}
