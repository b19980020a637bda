// What every driver has in common: commands come as arguments, answers go out as JSON lines, as
// driving.py says. BENCH_MODULES is the folder whose node_modules holds the peers.

import { createRequire } from "node:module";
import { pathToFileURL } from "node:url";
import { readFileSync } from "node:fs";
import { join } from "node:path";

export const QUEUE = "bench";
const modules = process.env.BENCH_MODULES;
const require = createRequire(join(modules, "package.json"));

/** Import a package out of BENCH_MODULES. */
export async function load(name) {
  return await import(pathToFileURL(require.resolve(name)));
}

/** The installed version of a package, and Node's own. */
export function version(name) {
  const described = readFileSync(join(modules, "node_modules", name, "package.json"), "utf8");
  return { version: `${JSON.parse(described).version} (Node ${process.versions.node})` };
}

function say(answer) {
  return new Promise((resolve) => process.stdout.write(`${JSON.stringify(answer)}\n`, resolve));
}

/** Say that everything is ready, and wait until all others are. */
export async function waitForGo() {
  await say({ ready: true });
  await new Promise((resolve) => process.stdin.once("data", resolve));
}

export const sleep = (seconds) => new Promise((resolve) => setTimeout(resolve, seconds * 1000));
export const now = () => performance.now() / 1000;

/** Counts jobs as they are done. */
export class Meter {
  total = 0;
  last = 0;

  count(jobs = 1) {
    this.total += jobs;
    this.last = now();
  }

  /** Wait for the warm-up, then for the time that counts. */
  async watch({ warm_up, seconds }) {
    await sleep(warm_up);
    const before = this.total;
    const start = now();
    await sleep(seconds);
    const end = now();
    return {
      jobs: this.total - before,
      seconds: end - start,
      idle: end - Math.max(this.last, start),
      total: this.total,
    };
  }
}

const STEP = Math.log(1.05);
const LEAST = 1e-5;

/** What happened in each second of the clock that all drivers read, as bench/series.py says. */
export class Recorder {
  rows = {};

  row() {
    return (this.rows[Math.floor(Number(process.hrtime.bigint() / 1000000n) / 1000)] ??= [0, {}]);
  }

  count(jobs = 1) {
    this.row()[0] += jobs;
  }

  took(seconds) {
    const step = Math.max(0, Math.ceil(Math.log(Math.max(seconds, LEAST) / LEAST) / STEP));
    const [, steps] = this.row();
    steps[step] = (steps[step] ?? 0) + 1;
  }
}

/**
 * Keep enough jobs waiting: add some when fewer than LOW are left, until a line says stop. A line
 * "tell" is answered with what there is by then.
 */
export async function feedUntilStopped(recorder, have, done, add) {
  let added = have;
  let stopped = false;
  process.stdin.on("data", (line) => {
    if (String(line).trim() === "tell") say({ seconds: recorder.rows });
    else stopped = true;
  });
  while (!stopped) {
    if (added - done() < LOW) added += await add();
    else await sleep(0.02);
  }
  return { seconds: recorder.rows };
}

const LOW = 20000;

/** Run the command that the arguments name, answer, and end without waiting for anything. */
export async function drive(commands) {
  const [name, options] = process.argv.slice(2);
  await say(await commands[name](JSON.parse(options)));
  process.exit(0);
}
