// A private PostgreSQL server for the stories: on a socket in a temporary folder and nowhere else.

import { execFileSync } from 'node:child_process';
import { chownSync, existsSync, mkdtempSync, readFileSync, readdirSync, realpathSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';

const ROLE = 'manyhands';
const PACKAGED = '/usr/lib/postgresql';
const START_SECONDS = 60;

/** The folder with initdb and its siblings, the newest version if there are several. */
function programs(): string {
  const onPath = (process.env['PATH'] ?? '').split(':');
  const packaged = existsSync(PACKAGED) ? readdirSync(PACKAGED) : [];
  packaged.sort((one, other) => Number(other) - Number(one));
  const folders = [...onPath, ...packaged.map((version) => join(PACKAGED, version, 'bin'))];
  const found = folders.map((folder) => join(folder, 'initdb')).find(existsSync);
  if (!found) throw new Error('PostgreSQL is not installed: run scripts/setup');
  // A link in PATH leads to the folder where the rest is.
  return dirname(realpathSync(found));
}

/** Whom it runs as when we are root, which initdb refuses to be. */
function unprivileged(): { uid: number; gid: number } | undefined {
  if (process.getuid?.() !== 0) return undefined;
  const users = readFileSync('/etc/passwd', 'utf8').split('\n').map((line) => line.split(':'));
  const user = users.find(([name]) => name === 'postgres') ?? users.find(([name]) => name === 'nobody');
  if (!user) throw new Error('no user to run PostgreSQL as');
  return { uid: Number(user[2]), gid: Number(user[3]) };
}

/** A cluster with the server's durable defaults and one empty database. */
export class Postgres {
  private readonly folder = mkdtempSync(join(tmpdir(), 'manyhands-sdk-postgres-'));
  private readonly programs = programs();
  private readonly user = unprivileged();

  constructor() {
    if (this.user) chownSync(this.folder, this.user.uid, this.user.gid);
    const text = ['--auth', 'trust', '--encoding', 'UTF8', '--no-locale'];
    this.run('initdb', '--pgdata', 'data', '--username', ROLE, ...text, '--no-sync');
    const options = `-k ${this.folder} -c listen_addresses= -c max_connections=100`;
    const wait = ['--wait', '--timeout', `${START_SECONDS}`];
    this.run('pg_ctl', 'start', '--pgdata', 'data', ...wait, '--log', 'log', '--options', options);
    this.run('createdb', '--host', this.folder, '--username', ROLE, '--template', 'template0', 'stories');
  }

  get url(): string {
    return `postgres://${ROLE}@localhost/stories?host=${this.folder}`;
  }

  /** Ends it at once, since nobody reads its data again. */
  remove(): void {
    this.run('pg_ctl', 'stop', '--pgdata', 'data', '--mode', 'immediate', '--wait');
    rmSync(this.folder, { recursive: true });
  }

  private run(name: string, ...words: string[]): void {
    const env = { PATH: process.env['PATH'], HOME: this.folder };
    const timeout = (START_SECONDS + 10) * 1000;
    execFileSync(join(this.programs, name), words, { cwd: this.folder, env, stdio: 'ignore', timeout, ...this.user });
  }
}
