// Agents, environments, and what needs no session.

import type Anthropic from '@anthropic-ai/sdk';

import { all, calls, cell, ends, holds, ids, isLater, kind, refused, resources, same } from './cells.js';

export const MODEL = process.env['CONFORMANCE_MODEL'] ?? '';

export const LOOKUP = {
  type: 'custom' as const,
  name: 'lookup',
  description: 'Looks a word up.',
  input_schema: { type: 'object' as const, properties: { word: { type: 'string' } } },
};

export async function agents(client: Anthropic): Promise<void> {
  const agents = client.beta.agents;
  const given = { name: 'Cell', model: MODEL, description: 'of a table', system: 'Be brief.', metadata: { a: 'b' } };
  const made = await agents.create({ ...given, tools: [LOOKUP] });
  await cell('beta.agents.create', async () => {
    same('agent', { ...given, model: made.model.id }, {
      name: made.name, model: MODEL, description: made.description, system: made.system, metadata: made.metadata,
    });
    same('version and tools', [made.version, made.tools.map((tool) => tool.type)], [1, ['custom']]);
  });
  await cell('beta.agents.retrieve', async () => {
    same('read back', await agents.retrieve(made.id), made);
    await refused(404, agents.retrieve('agent_01none'));
  });
  await cell('beta.agents.update', async () => {
    const changed = await agents.update(made.id, { version: 1, name: 'Other', metadata: { a: null, c: 'd' } });
    same('changed', [changed.name, changed.metadata, changed.version, changed.system], ['Other', { c: 'd' }, 2, 'Be brief.']);
    same('read back', await agents.retrieve(made.id), changed);
    await refused(409, agents.update(made.id, { version: 1, name: 'Late' }));
  });
  await cell('beta.agents.versions.list', async () => {
    const versions = await all(agents.versions.list(made.id, { limit: 1 }));
    same('versions', versions.map((agent) => agent.version), [2, 1]);
  });
  const second = await agents.create({ name: 'Second', model: MODEL });
  await cell('beta.agents.list', async () => {
    const listed = await ids(agents.list({ limit: 1 }));
    holds('newest first, over pages', listed[0] === second.id && listed.includes(made.id));
  });
  await ends('beta.agents', agents, second.id, (archived) => ids(agents.list({ include_archived: archived })));
}

export async function environments(client: Anthropic): Promise<void> {
  const environments = client.beta.environments;
  const networking = { type: 'limited' as const, allowed_hosts: ['api.example.com'] };
  const made = await environments.create({
    name: 'cell-ts', description: 'of a table', metadata: { a: 'b' }, config: { type: 'cloud', networking },
  });
  await cell('beta.environments.create', async () => {
    same('environment', [made.name, made.description, made.metadata], ['cell-ts', 'of a table', { a: 'b' }]);
    const shown = made.config.type === 'cloud' ? made.config.networking : undefined;
    same('hosts', shown?.type === 'limited' && shown.allowed_hosts, ['api.example.com']);
  });
  await cell('beta.environments.retrieve', async () => same('read back', await environments.retrieve(made.id), made));
  await cell('beta.environments.update', async () => {
    const changed = await environments.update(made.id, { name: 'other-ts', metadata: { a: null } });
    same('changed', [changed.name, changed.metadata, changed.config], ['other-ts', {}, made.config]);
    same('read back', await environments.retrieve(made.id), changed);
  });
  const second = await environments.create({ name: 'second-ts' });
  await cell('beta.environments.list', async () => {
    const listed = await ids(environments.list({ limit: 1 }));
    holds('newest first, over pages', listed[0] === second.id && listed.includes(made.id));
  });
  await ends('beta.environments', environments, second.id, (archived) => ids(environments.list({ include_archived: archived })));
}

/** The models, as they are and under `beta`. */
export async function models(prefix: string, models: Anthropic['models']): Promise<void> {
  await cell(`${prefix}.list`, async () => {
    const listed = await ids(models.list({ limit: 1 }));
    holds('over pages', listed.length > 1 && listed.includes(MODEL));
    same('after', (await ids(models.list({ after_id: listed[0]! })))[0], listed[1]);
    same('retired', await ids(models.list({ lifecycle: ['retired'] })), []);
  });
  await cell(`${prefix}.retrieve`, async () => {
    for (const listed of await all(models.list())) same('read back', await models.retrieve(listed.id), listed);
    await refused(404, models.retrieve('no-such-model'));
  });
}

export async function unknownFields(client: Anthropic): Promise<void> {
  await cell('unknown fields in a request', async () => {
    const body = { name: 'Future', model: MODEL, of_the_future: { a: [1] } };
    const made = await client.beta.agents.create(body, { query: { of_the_future: '1' } });
    same('name', made.name, 'Future');
    same('read back', await client.beta.agents.retrieve(made.id), made);
  });
}

const PARAMS = { environment_id: 'env_01none', tunnel_id: 'tnl_01none', metadata: { a: 'b' } };

/** Each call of what the server does not have: 501, in the contract's envelope, and not to be tried again. */
export async function later(client: Anthropic): Promise<void> {
  for (const [path, resource] of resources(client)) {
    if (!isLater(path)) continue;
    for (const name of calls(resource)) {
      await cell(`${path}.${name}`, async () => {
        // Helpers would ask for work again and again; what they ask first is what is not there.
        const asked = name === 'poller' || name === 'worker' ? 'poll' : name;
        const call = resource[asked] as (...given: unknown[]) => PromiseLike<unknown>;
        // A create and a list take an id only where they are below something.
        const takesId = !['create', 'list'].includes(asked) || path.endsWith('certificates') || path.endsWith('work');
        const error = await refused(501, takesId ? call.call(resource, '01none', PARAMS) : call.call(resource, PARAMS));
        same('error.type', kind(error), 'api_error');
        same('x-should-retry', error.headers?.get('x-should-retry'), 'false');
        throw error;
      });
    }
  }
}
