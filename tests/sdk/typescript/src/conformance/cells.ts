// What all cells share: a cell is a call and how it went, printed as one JSON object a line.

import { isDeepStrictEqual } from 'node:util';

import Anthropic, { APIError } from '@anthropic-ai/sdk';

/** Prints one line. */
export function tell(line: object): void {
  console.log(JSON.stringify(line));
}

/** Prints how a call went. */
export function told(call: string, result: string, error?: unknown): void {
  const reason = error === undefined ? '' : error instanceof Error ? `${error.name}: ${error.message}` : String(error);
  tell({ client: 'typescript', call, result, reason });
}

/** Runs what proves a call: green, or what else is `good`, when it does not throw. */
export async function cell(call: string, proof: () => Promise<void>, good: 'green' | 'local' = 'green'): Promise<void> {
  try {
    await proof();
    told(call, good);
  } catch (error) {
    if (error instanceof APIError && error.status === 501) told(call, 'not built');
    else told(call, 'red', error);
  }
}

/** Breaks the cell when two values differ. */
export function same(what: string, found: unknown, wanted: unknown): void {
  if (!isDeepStrictEqual(found, wanted))
    throw new Error(`${what}: found ${JSON.stringify(found)}, wanted ${JSON.stringify(wanted)}`);
}

/** Breaks the cell when something is not so. */
export function holds(what: string, so: boolean): void {
  if (!so) throw new Error(`${what} does not hold`);
}

/** Breaks the cell unless a request is refused with this status. */
export async function refused(status: number, request: PromiseLike<unknown>): Promise<APIError> {
  try {
    await request;
  } catch (error) {
    if (!(error instanceof APIError)) throw error;
    same('status', error.status, status);
    return error;
  }
  throw new Error(`expected status ${status}, got an answer`);
}

/** The `error.type` of a refusal. */
export function kind(error: APIError): unknown {
  return (error.error as { error?: { type?: unknown } } | undefined)?.error?.type;
}

/** All items of all pages. */
export async function all<T>(pages: AsyncIterable<T>): Promise<T[]> {
  const items: T[] = [];
  for await (const item of pages) items.push(item);
  return items;
}

/** The ids of all items of all pages. */
export async function ids(pages: AsyncIterable<{ id: string }>): Promise<string[]> {
  return (await all(pages)).map((item) => item.id);
}

/** How one of a kind of resource ends. */
interface Ends {
  archive(id: string, of?: any): PromiseLike<{ id: string; archived_at?: string | null }>;
  delete?(id: string, of?: any): PromiseLike<{ id: string; type: string }>;
  retrieve(id: string, of?: any): PromiseLike<{ archived_at?: string | null }>;
}

/** The cells of how one ends; `listed` gives the ids of all, with the archived ones or without, and `of` is what calls are told. */
export async function ends(
  prefix: string,
  calls: Ends,
  id: string,
  listed: (archived: boolean) => Promise<string[]>,
  of?: object,
): Promise<void> {
  await cell(`${prefix}.archive`, async () => {
    const archived = await calls.archive(id, of);
    holds('archived_at', archived.id === id && Boolean(archived.archived_at));
    same('read back', (await calls.retrieve(id, of)).archived_at, archived.archived_at);
    holds('out of the list', !(await listed(false)).includes(id));
    holds('in the whole list', (await listed(true)).includes(id));
  });
  if (!calls.delete) return;
  await cell(`${prefix}.delete`, async () => {
    const deleted = await calls.delete?.(id, of);
    holds('deleted', deleted?.id === id && deleted.type.endsWith('_deleted'));
    await refused(404, calls.retrieve(id, of));
    holds('out of the whole list', !(await listed(true)).includes(id));
  });
}

/** Runs a group of cells; what goes wrong between them is told as well. */
export async function group(name: string, cells: () => Promise<void>): Promise<void> {
  try {
    await cells();
  } catch (error) {
    told(`what the cells of ${name} need`, 'red', error);
  }
}

const OTHERS = ['messages', 'completions', 'organization'];
const LATER = ['environments.work', 'deployments', 'deploymentRuns', 'dreams', 'tunnels', 'organization.webhooks'];

type Resource = Record<string, unknown>;

/** The resources of managed agents and what is beside them, by the path to them. */
export function resources(client: Anthropic): Map<string, Resource> {
  const found = new Map<string, Resource>();
  const walk = (resource: Resource, path: string) => {
    found.set(path, resource);
    for (const [name, below] of Object.entries(resource))
      if (below && typeof below === 'object' && '_client' in below && name !== '_client' && !OTHERS.includes(name))
        walk(below as Resource, `${path}.${name}`);
  };
  const top = client as unknown as Resource;
  // Some are made when they are first asked for.
  for (const name of ['beta', 'files', 'models', 'skills', 'userProfiles'])
    if (top[name]) walk(top[name] as Resource, name);
  walk(client.beta.organization.webhooks as unknown as Resource, 'beta.organization.webhooks');
  return found;
}

/** The calls of a resource. */
export function calls(resource: Resource): string[] {
  return Object.getOwnPropertyNames(Object.getPrototypeOf(resource)).filter(
    (name) => name !== 'constructor' && !name.startsWith('_') && typeof resource[name] === 'function',
  );
}

/** Whether the server does not have what a resource is. */
export function isLater(path: string): boolean {
  const bare = path.replace(/^beta\./, '');
  return LATER.some((prefix) => bare === prefix || bare.startsWith(`${prefix}.`));
}
