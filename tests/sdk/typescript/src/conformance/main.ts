// Every managed-agents call of the official TypeScript SDK against a running server: prints the calls that the SDK has, then for
// each how it went. It reads CONFORMANCE_URL, CONFORMANCE_KEY, CONFORMANCE_MODEL, CONFORMANCE_OUTPUT and CONFORMANCE_OUTPUT_SESSION.

import Anthropic from '@anthropic-ai/sdk';

import { agents, environments, later, models, unknownFields } from './agents.js';
import { calls, group, resources, tell } from './cells.js';
import { helpers, webhooks } from './helpers.js';
import { events, sessionResources, sessions, threads, toolRunner } from './sessions.js';
import { betaSkills, credentials, files, memories, memoryStores, skills, userProfiles, vaults } from './stores.js';

const { CONFORMANCE_URL: baseURL, CONFORMANCE_KEY: apiKey } = process.env;
const client = new Anthropic({ baseURL: baseURL ?? null, apiKey: apiKey ?? null, timeout: 30_000 });

tell({ calls: [...resources(client)].flatMap(([path, resource]) => calls(resource).map((name) => `${path}.${name}`)) });

const groups: Record<string, () => Promise<void>> = {
  agents: () => agents(client),
  environments: () => environments(client),
  'beta files': () => files('beta.files', client.beta.files as unknown as Anthropic['files']),
  files: () => files('files', client.files),
  vaults: () => vaults(client),
  credentials: () => credentials(client),
  sessions: () => sessions(client),
  events: () => events(client),
  threads: () => threads(client),
  resources: () => sessionResources(client),
  'the tool runner': () => toolRunner(client),
  'beta models': () => models('beta.models', client.beta.models as unknown as Anthropic['models']),
  models: () => models('models', client.models),
  'beta user profiles': () => userProfiles(client, 'beta.userProfiles'),
  'user profiles': () => userProfiles(client, 'userProfiles'),
  'memory stores': () => memoryStores(client),
  memories: () => memories(client),
  'beta skills': () => betaSkills(client),
  skills: () => skills('skills', client.skills),
  'unknown fields': () => unknownFields(client),
  later: () => later(client),
  webhooks: () => webhooks(client),
  'the helpers': () => helpers(client),
};
for (const [name, cells] of Object.entries(groups)) await group(name, cells);
