// What is kept beside sessions: files, vaults, memory stores, skills, user profiles.

import { createHash } from 'node:crypto';

import Anthropic, { toFile } from '@anthropic-ai/sdk';

import { all, cell, ends, holds, ids, kind, refused, same } from './cells.js';
import { unpacked } from './zip.js';

const SECRET = 'cell-secret';
const { CONFORMANCE_OUTPUT = '', CONFORMANCE_OUTPUT_SESSION = '' } = process.env;
/** A file that an agent wrote: its session, and each byte once, in order. */
export const OUTPUT = { file: CONFORMANCE_OUTPUT, session: CONFORMANCE_OUTPUT_SESSION };
export const EVERY_BYTE = Buffer.from(Array.from({ length: 256 }, (_, byte) => byte));

/** The files, as they are and under `beta`. */
export async function files(prefix: string, files: Anthropic['files']): Promise<void> {
  const made = await files.upload({
    file: await toFile(Buffer.from('one line\n'), 'notes.txt', { type: 'text/plain' }),
    expires_in_seconds: 7200,
  });
  await cell(`${prefix}.upload`, async () => {
    same('file', [made.filename, made.mime_type, made.size_bytes], ['notes.txt', 'text/plain', 9]);
    holds('expires_at', Boolean(made.expires_at));
  });
  await cell(`${prefix}.retrieveMetadata`, async () => same('read back', await files.retrieveMetadata(made.id), made));
  await cell(`${prefix}.list`, async () => {
    const second = await files.upload({ file: await toFile(Buffer.from('b'), 'b.bin') });
    const listed = await ids(files.list({ limit: 1 }));
    holds('newest first, over pages', listed[0] === second.id && listed.includes(made.id));
    same('by ids', await ids(files.list({ ids: [made.id] })), [made.id]);
  });
  await cell(`${prefix}.download`, async () => {
    // What a client has uploaded is not given back: the refusal is the documented answer, and its code is read.
    const error = await refused(400, files.download(made.id));
    holds('error_code', JSON.stringify(error.error).includes('file_not_downloadable'));
    // What an agent has written is.
    const of = prefix === 'files' ? { ids: [OUTPUT.file] } : { scope_id: OUTPUT.session };
    const written = await all(files.list(of as Anthropic.FileListParams));
    same('written', written.map((file) => [file.id, file.filename]), [[OUTPUT.file, 'every-byte.bin']]);
    same('content', Buffer.from(await (await files.download(OUTPUT.file)).arrayBuffer()), EVERY_BYTE);
  });
  await cell(`${prefix}.delete`, async () => {
    const deleted = await files.delete(made.id);
    same('deleted', [deleted.id, deleted.type], [made.id, 'file_deleted']);
    await refused(404, files.retrieveMetadata(made.id));
  });
}

export async function vaults(client: Anthropic): Promise<void> {
  const vaults = client.beta.vaults;
  const made = await vaults.create({ display_name: 'keys', metadata: { a: 'b' } });
  await cell('beta.vaults.create', async () => same('vault', [made.display_name, made.metadata], ['keys', { a: 'b' }]));
  await cell('beta.vaults.retrieve', async () => same('read back', await vaults.retrieve(made.id), made));
  await cell('beta.vaults.update', async () => {
    const changed = await vaults.update(made.id, { display_name: 'other', metadata: { a: null } });
    same('changed', [changed.display_name, changed.metadata], ['other', {}]);
    same('read back', await vaults.retrieve(made.id), changed);
  });
  const second = await vaults.create({ display_name: 'second' });
  await cell('beta.vaults.list', async () => {
    const listed = await ids(vaults.list({ limit: 1 }));
    holds('newest first, over pages', listed[0] === second.id && listed.includes(made.id));
  });
  await ends('beta.vaults', vaults, second.id, (archived) => ids(vaults.list({ include_archived: archived })));
}

export async function credentials(client: Anthropic): Promise<void> {
  const credentials = client.beta.vaults.credentials;
  const vault = (await client.beta.vaults.create({ display_name: 'keys' })).id;
  const of = { vault_id: vault };
  const url = 'https://mcp.invalid/v1';
  const made = await credentials.create(vault, {
    auth: { type: 'static_bearer', mcp_server_url: url, token: SECRET }, display_name: 'one', metadata: { a: 'b' },
  });
  await cell('beta.vaults.credentials.create', async () => {
    same('auth', made.auth, { type: 'static_bearer', mcp_server_url: url });
    same('credential', [made.vault_id, made.display_name, made.metadata], [vault, 'one', { a: 'b' }]);
  });
  await cell('beta.vaults.credentials.retrieve', async () => same('read back', await credentials.retrieve(made.id, of), made));
  await cell('beta.vaults.credentials.update', async () => {
    const changed = await credentials.update(made.id, { ...of, display_name: 'two', metadata: { a: null } });
    same('changed', [changed.display_name, changed.metadata, changed.auth], ['two', {}, made.auth]);
    same('read back', await credentials.retrieve(made.id, of), changed);
  });
  const networking = { type: 'limited' as const, allowed_hosts: ['api.example.com'] };
  const second = await credentials.create(vault, {
    auth: { type: 'environment_variable', secret_name: 'API_KEY', secret_value: SECRET, networking },
  });
  await cell('beta.vaults.credentials.list', async () => {
    same('networking', second.auth.type === 'environment_variable' && second.auth.networking, networking);
    same('all', await ids(credentials.list(vault, { limit: 1 })), [second.id, made.id]);
  });
  await cell('beta.vaults.credentials.mcpOAuthValidate', async () => {
    const auth = { type: 'mcp_oauth' as const, mcp_server_url: 'https://oauth.invalid/mcp', access_token: SECRET };
    const third = await credentials.create(vault, { auth });
    const tried = await credentials.mcpOAuthValidate(third.id, of);
    // The server of it does not exist, which says nothing about the credential.
    same('tried', [tried.credential_id, tried.vault_id, tried.status], [third.id, vault, 'unknown']);
  });
  const listed = (archived: boolean) => ids(credentials.list(vault, { include_archived: archived }));
  await ends('beta.vaults.credentials', credentials, second.id, listed, of);
}

export async function memoryStores(client: Anthropic): Promise<void> {
  const stores = client.beta.memoryStores;
  const made = await stores.create({ name: 'notes', description: 'of cells', metadata: { a: 'b' } });
  await cell('beta.memoryStores.create', async () => {
    same('store', [made.name, made.description, made.metadata], ['notes', 'of cells', { a: 'b' }]);
  });
  await cell('beta.memoryStores.retrieve', async () => same('read back', await stores.retrieve(made.id), made));
  await cell('beta.memoryStores.update', async () => {
    const changed = await stores.update(made.id, { name: 'other', description: '', metadata: { a: null } });
    same('changed', [changed.name, changed.description, changed.metadata], ['other', '', {}]);
    same('read back', await stores.retrieve(made.id), changed);
  });
  const second = await stores.create({ name: 'second' });
  await cell('beta.memoryStores.list', async () => {
    const listed = await ids(stores.list({ limit: 1 }));
    holds('newest first, over pages', listed[0] === second.id && listed.includes(made.id));
  });
  await ends('beta.memoryStores', stores, second.id, (archived) => ids(stores.list({ include_archived: archived })));
}

const digest = (content: string) => createHash('sha256').update(content).digest('hex');

export async function memories(client: Anthropic): Promise<void> {
  const { memories, memoryVersions } = client.beta.memoryStores;
  const store = (await client.beta.memoryStores.create({ name: 'cells' })).id;
  const of = { memory_store_id: store };
  const [first, then] = ['ein Häuschen\n', 'zwei'];
  const made = await memories.create(store, { path: '/a/one.md', content: first, view: 'full' });
  await cell('beta.memoryStores.memories.create', async () => {
    same('memory', [made.path, made.content, made.content_sha256], ['/a/one.md', first, digest(first)]);
    const error = await refused(409, memories.create(store, { path: '/a/one.md', content: 'x' }));
    same('told apart', kind(error), 'memory_path_conflict_error');
  });
  await cell('beta.memoryStores.memories.retrieve', async () => same('read back', await memories.retrieve(made.id, of), made));
  const held = { type: 'content_sha256' as const, content_sha256: made.content_sha256 };
  const update = { ...of, content: then, path: '/a/two.md', precondition: held, view: 'full' as const };
  const changed = await memories.update(made.id, update);
  await cell('beta.memoryStores.memories.update', async () => {
    same('changed', [changed.id, changed.path, changed.content], [made.id, '/a/two.md', then]);
    same('read back', await memories.retrieve(made.id, of), changed);
    const error = await refused(409, memories.update(made.id, { ...update, content: 'late' }));
    same('told apart', kind(error), 'memory_precondition_failed_error');
  });
  const top = await memories.create(store, { path: '/top.md', content: 't' });
  await cell('beta.memoryStores.memories.list', async () => {
    const paths = async (query: object) => (await all(memories.list(store, query))).map((item) => `${item.type} ${item.path}`);
    same('all', await paths({ limit: 1 }), ['memory /a/two.md', 'memory /top.md']);
    same('folded', await paths({ depth: 1 }), ['memory_prefix /a/', 'memory /top.md']);
    same('below', await paths({ path_prefix: '/a/' }), ['memory /a/two.md']);
  });
  await cell('beta.memoryStores.memories.delete', async () => {
    const deleted = await memories.delete(top.id, { ...of, expected_content_sha256: digest('t') });
    same('deleted', [deleted.id, deleted.type], [top.id, 'memory_deleted']);
    await refused(404, memories.retrieve(top.id, of));
  });
  const versions = await all(memoryVersions.list(store, { memory_id: made.id, limit: 1 }));
  const oldest = versions[1]?.id ?? '';
  await cell('beta.memoryStores.memoryVersions.list', async () => {
    same('operations', versions.map((version) => version.operation), ['modified', 'created']);
    same('newest', [versions[0]?.id, versions[0]?.created_by?.type], [changed.memory_version_id, 'api_actor']);
  });
  await cell('beta.memoryStores.memoryVersions.retrieve', async () => {
    const version = await memoryVersions.retrieve(oldest, of);
    same('version', [version.id, version.path, version.content], [oldest, '/a/one.md', first]);
  });
  await cell('beta.memoryStores.memoryVersions.redact', async () => {
    const redacted = await memoryVersions.redact(oldest, of);
    same('gone', [redacted.id, redacted.path ?? null, redacted.content ?? null], [oldest, null, null]);
    same('read back', await memoryVersions.retrieve(oldest, of), redacted);
  });
}

/** The skills, as they are and under `beta`; gives a skill and its first version to more cells before it deletes both. */
export async function skills(
  prefix: string,
  skills: Anthropic['skills'],
  more: (skill: string, version: string, slug: string) => Promise<void> = async () => undefined,
): Promise<void> {
  const slug = `cell-ts-${prefix.replace('.', '-')}`;
  const folder = (told: string) => {
    const head = `---\nname: ${slug}\ndescription: ${told}\n---\n${told}\n`;
    const file = (path: string, text: string) => toFile(Buffer.from(text), `${slug}/${path}`);
    return Promise.all([file('SKILL.md', head), file('scripts/run.sh', 'echo hello\n')]);
  };
  const made = await skills.create({ display_name: 'A cell', files: await folder('First.') });
  const first = made.latest_version_id;
  await cell(`${prefix}.create`, async () => same('skill', [made.display_name, made.source.type], ['A cell', 'custom']));
  await cell(`${prefix}.retrieve`, async () => same('read back', await skills.retrieve(made.id), made));
  await cell(`${prefix}.list`, async () => {
    const listed = await all(skills.list({ limit: 1, source: 'custom' }));
    same('over pages', listed.find((skill) => skill.id === made.id), made);
    holds('only custom ones', listed.every((skill) => skill.source.type === 'custom'));
  });
  const second = await skills.versions.create(made.id, { files: await folder('Second.') });
  await cell(`${prefix}.versions.create`, async () => {
    same('version', [second.skill_id, second.name, second.description], [made.id, slug, 'Second.']);
    same('latest', (await skills.retrieve(made.id)).latest_version_id, second.id);
  });
  const of = { skill_id: made.id };
  await cell(`${prefix}.versions.retrieve`, async () => {
    same('read back', await skills.versions.retrieve(second.id, of), second);
    same('latest', await skills.versions.retrieve('latest', of), second);
    same('first', (await skills.versions.retrieve(first, of)).description, 'First.');
  });
  await cell(`${prefix}.versions.list`, async () => {
    same('over pages', (await ids(skills.versions.list(made.id, { limit: 1 }))).sort(), [first, second.id].sort());
  });
  await more(made.id, first, slug);
  await cell(`${prefix}.versions.delete`, async () => {
    const deleted = await skills.versions.delete(first, of);
    same('deleted', [deleted.id, deleted.type], [first, 'skill_version_deleted']);
    same('left', await ids(skills.versions.list(made.id)), [second.id]);
  });
  await cell(`${prefix}.delete`, async () => {
    const deleted = await skills.delete(made.id);
    same('deleted', [deleted.id, deleted.type], [made.id, 'skill_deleted']);
    await refused(404, skills.retrieve(made.id));
  });
}

export async function betaSkills(client: Anthropic): Promise<void> {
  const beta = client.beta.skills;
  await skills('beta.skills', beta as unknown as Anthropic['skills'], async (skill, version, slug) => {
    await cell('beta.skills.versions.download', async () => {
      const answer = await beta.versions.download(version, { skill_id: skill });
      same('files', unpacked(Buffer.from(await answer.arrayBuffer())), {
        [`${slug}/SKILL.md`]: `---\nname: ${slug}\ndescription: First.\n---\nFirst.\n`,
        [`${slug}/scripts/run.sh`]: 'echo hello\n',
      });
    });
  });
}

/** The user profiles, as they are and under `beta`, whose shape is another. */
export async function userProfiles(client: Anthropic, prefix: 'userProfiles' | 'beta.userProfiles'): Promise<void> {
  const isBeta = prefix === 'beta.userProfiles';
  const profiles = isBeta ? (client.beta.userProfiles as unknown as Anthropic['userProfiles']) : client.userProfiles;
  const reference = isBeta ? { external_id: 'u-1' } : { external_user_details: { reference_id: 'u-1', country: 'AT' } };
  const made = await profiles.create({ name: 'Ada', access_type: 'passthrough', metadata: { a: 'b' }, ...reference });
  await cell(`${prefix}.create`, async () => {
    same('profile', [made.name, made.access_type, made.metadata], ['Ada', 'passthrough', { a: 'b' }]);
    const shown = made as { external_id?: string; external_user_details?: { reference_id: string | null } };
    same('reference', isBeta ? shown.external_id : shown.external_user_details?.reference_id, 'u-1');
  });
  await cell(`${prefix}.retrieve`, async () => same('read back', await profiles.retrieve(made.id), made));
  await cell(`${prefix}.update`, async () => {
    const changed = await profiles.update(made.id, { name: 'Grace', metadata: { a: '', c: 'd' } });
    same('changed', [changed.name, changed.metadata, changed.access_type], ['Grace', { c: 'd' }, 'passthrough']);
    same('read back', await profiles.retrieve(made.id), changed);
  });
  const second = await profiles.create({ name: 'Aaron' });
  await cell(`${prefix}.list`, async () => {
    const listed = await ids(profiles.list({ limit: 1 }));
    holds('newest first, over pages', listed[0] === second.id && listed.includes(made.id));
  });
  const opens = async (url: string) => holds('a page', (await (await fetch(url)).text()).includes('nothing to do'));
  await cell(`${prefix}.actionURLs.create`, async () => {
    const link = await profiles.actionURLs.create(made.id, { action: { type: 'enroll_end_user' } });
    same('type', link.type, 'user_profile_action_url');
    await opens(link.url);
  });
  if (isBeta)
    await cell('beta.userProfiles.createEnrollmentURL', async () => {
      await opens((await client.beta.userProfiles.createEnrollmentURL(made.id)).url);
    });
  await cell(`${prefix}.delete`, async () => {
    const deleted = await profiles.delete(second.id);
    same('deleted', [deleted.id, deleted.type], [second.id, 'user_profile_deleted']);
    await refused(404, profiles.retrieve(second.id));
  });
}
