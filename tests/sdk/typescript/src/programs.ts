// The programs under test as processes of their own: the real server, the model stub.

import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { homedir, tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';

const START_MILLIS = 60_000;

/** The path of a built program: what the variable says, else what the last build left. */
function program(variable: string, name: string): string {
  const named = process.env[variable];
  if (named) return named;
  const cache = process.env['XDG_CACHE_HOME'] || join(homedir(), '.cache');
  const target = process.env['CARGO_TARGET_DIR'] || join(cache, 'manyhands', 'target');
  const found = ['release', 'debug'].map((profile) => join(target, profile, name)).find(existsSync);
  if (!found) throw new Error(`${name} is not built: run "make test", or set ${variable}`);
  return found;
}

/** A child process that prints `listening on URL` when it serves; ended by its own process id. */
class Program {
  private constructor(
    private readonly child: ChildProcess,
    readonly url: string,
    private readonly said: string[],
  ) {}

  static async start(command: string, flags: string[], environment: NodeJS.ProcessEnv): Promise<Program> {
    // Of the caller's environment the child sees no more: a key in a developer's shell must change nothing.
    const { PATH, HOME } = process.env;
    const child = spawn(command, flags, { env: { PATH, HOME, ...environment }, stdio: ['pipe', 'pipe', 'pipe'] });
    const said: string[] = [];
    child.stderr.on('data', (text: Buffer) => said.push(text.toString()));
    const url = await new Promise<string>((resolve, reject) => {
      const failed = (why: string) => {
        child.kill('SIGKILL');
        reject(new Error(`${command} ${why}. It said:\n${said.join('')}`));
      };
      const timer = setTimeout(() => failed('does not listen'), START_MILLIS);
      child.once('exit', () => failed('ended'));
      createInterface({ input: child.stdout }).on('line', (line) => {
        said.push(`${line}\n`);
        const address = line.split('listening on ')[1];
        if (address) {
          clearTimeout(timer);
          child.removeAllListeners('exit');
          resolve(address.trim());
        }
      });
    });
    return new Program(child, url, said);
  }

  /** All it has printed. */
  log(): string {
    return this.said.join('');
  }

  /** Asks it to end and waits until it has. */
  async stop(): Promise<void> {
    if (this.child.exitCode === null && this.child.signalCode === null) {
      this.child.kill('SIGTERM');
      await once(this.child, 'exit');
    }
  }
}

/** What the model does: one `bash` call per turn, or what the user's message dictates behind `reply:`. */
type Mode = 'bash' | 'told';

/** A model whose prices are known, so that sessions can have a budget. */
const config = (url: string) => `
[[models]]
id = "claude-opus-4-8"
provider = "anthropic"
base_url = "${url}"
key = { env = "STORY_MODEL_KEY" }
mid_conversation_system = true
prices = { input = 5, output = 25, cache_read = 0.5, cache_write = 6.25 }
`;

/** `manyhands serve` with an empty data directory, whose model is a stub. */
export class Server {
  private constructor(
    private readonly folder: string,
    private readonly stub: Program,
    private readonly server: Program,
  ) {}

  /** Starts both; `database` may name one, else the data is in SQLite. */
  static async start(mode: Mode = 'bash', database: NodeJS.ProcessEnv = {}): Promise<Server> {
    const stub = await Program.start(
      program('MANYHANDS_MODEL_STUB', 'manyhands-model-stub'),
      ['--listen', '127.0.0.1:0', '--mode', mode, '--check'],
      {},
    );
    const folder = mkdtempSync(join(tmpdir(), 'manyhands-sdk-'));
    const settings = join(folder, 'manyhands.toml');
    writeFileSync(settings, config(stub.url));
    try {
      const server = await Program.start(
        program('MANYHANDS_BIN', 'manyhands'),
        ['serve', '--listen', '127.0.0.1:0', '--data-dir', join(folder, 'data')],
        { MANYHANDS_CONFIG: settings, STORY_MODEL_KEY: 'stub', ...database },
      );
      return new Server(folder, stub, server);
    } catch (error) {
      // A child that is left would keep this process alive for ever.
      await stub.stop();
      rmSync(folder, { recursive: true });
      throw error;
    }
  }

  get url(): string {
    return this.server.url;
  }

  get key(): string {
    return readFileSync(join(this.folder, 'data', 'api-key'), 'utf8').trim();
  }

  log(): string {
    return this.server.log();
  }

  /** Lets the model go on that waits at a gate. */
  async openGate(name: string): Promise<void> {
    await fetch(`${this.stub.url}/gates/${name}`, { method: 'POST' });
  }

  /** The last model request that holds a text, as it was sent. */
  async lastAsked(mark: string): Promise<{ messages: { role: string; content: unknown }[] }> {
    const requests = (await (await fetch(`${this.stub.url}/requests`)).json()) as unknown[];
    const found = requests.filter((request) => JSON.stringify(request).includes(mark)).at(-1);
    if (!found) throw new Error(`the model was never asked about ${mark}`);
    return found as { messages: { role: string; content: unknown }[] };
  }

  /** Ends both programs, and what is left of them on the disk. */
  async remove(): Promise<void> {
    await this.server.stop();
    await this.stub.stop();
    rmSync(this.folder, { recursive: true });
  }
}
