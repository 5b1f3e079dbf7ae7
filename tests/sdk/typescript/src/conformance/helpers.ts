// What the SDK does around its calls: pages by hand, answers as they are, uploads from many places, webhooks.

import { createHmac } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import Anthropic, { toFile } from '@anthropic-ai/sdk';

import { MODEL } from './agents.js';
import { cell, holds, ids, refused, same } from './cells.js';
import { EVERY_BYTE, OUTPUT } from './stores.js';

export async function helpers(client: Anthropic): Promise<void> {
  const agents = client.beta.agents;
  const made: string[] = [];
  for (const number of [0, 1, 2]) made.unshift((await agents.create({ name: `Page ${number}`, model: MODEL })).id);
  const first = made[0] ?? '';
  await cell('helper: pages by hand', async () => {
    const seen: string[] = [];
    let page = await agents.list({ limit: 2 });
    for (;;) {
      holds('two at most', page.data.length <= 2);
      seen.push(...page.data.map((agent) => agent.id));
      if (!page.hasNextPage()) break;
      page = await page.getNextPage();
    }
    same('newest first', seen.slice(0, 3), made);
    same('all', seen, await ids(agents.list({ limit: 100 })));
  });
  await cell('helper: raw answers', async () => {
    const { data, response, request_id } = await agents.retrieve(first).withResponse();
    same('agent', data, await (await agents.retrieve(first).asResponse()).json());
    same('status and type', [response.status, response.headers.get('content-type')], [200, 'application/json']);
    holds('request id', Boolean(request_id) && response.headers.get('request-id') === request_id);
    const refusal = await refused(404, agents.retrieve('agent_01none'));
    same('request id', refusal.requestID, (refusal.error as { request_id?: string }).request_id);
  });
  await cell('helper: streamed answers', async () => {
    const parts: Uint8Array[] = [];
    for await (const part of (await client.beta.files.download(OUTPUT.file)).body ?? []) parts.push(part);
    same('bytes', Buffer.concat(parts), EVERY_BYTE);
  });
  await uploads(client);
}

/** A file from each place that the SDK takes one from. */
async function uploads(client: Anthropic): Promise<void> {
  const folder = await mkdtemp(join(tmpdir(), 'manyhands-ts-'));
  try {
    await cell('helper: uploads from a path, bytes and a reader', async () => {
      const path = join(folder, 'up.txt');
      await writeFile(path, 'up\n');
      for (const file of [
        createReadStream(path),
        await toFile(new TextEncoder().encode('up\n'), 'up.txt'),
        new File(['up\n'], 'up.txt', { type: 'text/plain' }),
        await toFile(new Response('up\n'), 'up.txt'),
      ]) {
        const sent = await client.beta.files.upload({ file });
        same('file', [sent.filename, sent.size_bytes], ['up.txt', 3]);
        same('read back', await client.beta.files.retrieveMetadata(sent.id), sent);
      }
    });
  } finally {
    await rm(folder, { recursive: true });
  }
}

const KEY = 'of the receiver of these deliveries';
const DELIVERED = {
  type: 'event',
  id: 'whevt_01none',
  created_at: '2026-10-21T00:00:00Z',
  data: {
    type: 'session.status_idled', id: 'sesn_01none', organization_id: 'org_01none', workspace_id: 'wrkspc_01none',
  },
};

/** The headers of a delivery. */
function signed(body: string, key: string): Record<string, string> {
  const at = String(Math.floor(Date.now() / 1000));
  const mac = createHmac('sha256', key).update(`msg_1.${at}.${body}`).digest('base64');
  return { 'webhook-id': 'msg_1', 'webhook-timestamp': at, 'webhook-signature': `v1,${mac}` };
}

/** The check of a delivery needs no server: it takes what is signed with its key, and nothing else. */
export async function webhooks(client: Anthropic): Promise<void> {
  const body = JSON.stringify(DELIVERED);
  const key = `whsec_${Buffer.from(KEY).toString('base64')}`;
  const unwrap = (headers: Record<string, string>): unknown => client.beta.webhooks.unwrap(body, { headers, key });
  await cell(
    'beta.webhooks.unwrap',
    async () => {
      same('event', unwrap(signed(body, KEY)), DELIVERED);
      for (const forged of [signed(body, 'of another'), signed(`${body} `, KEY)]) {
        let taken = true;
        try {
          unwrap(forged);
        } catch {
          taken = false;
        }
        holds('a forged one is refused', !taken);
      }
    },
    'local',
  );
  await cell('beta.webhooks.parseUnverified', async () => same('event', client.beta.webhooks.parseUnverified(body), DELIVERED), 'local');
}
