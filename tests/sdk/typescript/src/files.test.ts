// Files with the official TypeScript SDK: sent, mounted, written by an agent, and gone with their session.

import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';

import Anthropic, { toFile } from '@anthropic-ai/sdk';

import { Server } from './programs.js';
import { BUILT_IN, Story, bash, call, replies, say } from './stories.js';

const bounded = { timeout: 180_000 };
let server: Server;
let client: Anthropic;

before(async () => {
  server = await Server.start('told');
  client = new Anthropic({ baseURL: server.url, apiKey: server.key });
});

after(async () => {
  for await (const session of client.beta.sessions.list({ include_archived: true })) {
    await client.beta.sessions.delete(session.id);
  }
  await server.remove();
});

test('FI-8: a file is sent, shown, listed and removed', bounded, async () => {
  const file = await client.beta.files.upload({
    file: await toFile(Buffer.from('a,b\n'), 'data.csv', { type: 'text/csv' }),
    expires_in_seconds: 7200,
  });
  assert.equal(file.filename, 'data.csv');
  assert.equal(file.mime_type, 'text/csv');
  assert.equal(file.size_bytes, 4);
  assert.equal(Date.parse(file.expires_at ?? '') - Date.parse(file.created_at), 7_200_000);
  assert.deepEqual(await client.beta.files.retrieveMetadata(file.id), file);
  const listed: string[] = [];
  for await (const each of client.beta.files.list()) listed.push(each.id);
  assert.deepEqual(listed, [file.id]);
  await assert.rejects(client.beta.files.download(file.id), Anthropic.BadRequestError);
  assert.equal((await client.beta.files.delete(file.id)).id, file.id);
  await assert.rejects(client.beta.files.retrieveMetadata(file.id), Anthropic.NotFoundError);
});

test('FI-1, FI-5, UP-8: a file is mounted, an output appears and goes with its session', bounded, async () => {
  const file = await client.beta.files.upload({ file: await toFile(Buffer.from('hello'), 'in.txt') });
  const resources = [{ type: 'file' as const, file_id: file.id, mount_path: '/in.txt' }];
  const story = await Story.begin(server, [BUILT_IN], { resources });
  await story.turn(replies(call([bash('tr a-z A-Z < /mnt/session/uploads/in.txt > /mnt/session/outputs/out.txt')]), say('Done.')));
  const outputs = async () => {
    const found = [];
    for await (const each of client.beta.files.list({ scope_id: story.id })) if (each.downloadable) found.push(each);
    return found;
  };
  // Nobody tells when it is there.
  const end = Date.now() + 60_000;
  let found = await outputs();
  while (found.length === 0 && Date.now() < end) found = await outputs();
  assert.equal(found.length, 1);
  const output = found[0];
  assert.ok(output);
  assert.equal(output.filename, 'out.txt');
  const read = await client.beta.files.download(output.id);
  assert.equal(await read.text(), 'HELLO');
  await story.close();
  await client.beta.sessions.delete(story.id);
  await assert.rejects(client.beta.files.retrieveMetadata(output.id), Anthropic.NotFoundError);
  await client.beta.files.delete(file.id);
});
