// pg-boss: fetch and complete in loops, which leaves out the pauses of its workers.
//
// Settings: batch, how many jobs a fetch takes; loops, how many fetch side by side;
// partition, whether the queue has a table of its own.

import {
  QUEUE, Meter, Recorder, drive, feedUntilStopped, load, now, sleep, version, waitForGo,
} from "./driving.mjs";

const CHUNK = 5000;

async function open({ url, loops = 2, ...options }, more) {
  const { PgBoss, default: Default } = await load("pg-boss");
  const boss = new (PgBoss ?? Default)({
    connectionString: url,
    max: loops + 1,
    supervise: false,
    schedule: false,
    ...more,
  });
  boss.on("error", (error) => console.error(error));
  await boss.start();
  return boss;
}

async function insert(boss, name, size = 2000) {
  const jobs = Array.from({ length: size }, () => ({ name, data: null }));
  await (boss.insert.length === 1 ? boss.insert(jobs) : boss.insert(name, jobs));
  return size;
}

/** Fetch and complete in loops; tells how many jobs were done, and how long each fetch took. */
function cycle(boss, name, { loops, batch }, count, took = () => {}) {
  for (let loop = 0; loop < loops; loop++) {
    (async () => {
      for (;;) {
        const start = now();
        const jobs = await boss.fetch(name, { batchSize: batch });
        took(now() - start);
        if (jobs.length === 0) await sleep(0.01);
        else {
          await boss.complete(name, jobs.map((job) => job.id));
          count(jobs.length);
        }
      }
    })();
  }
}

const queue = ({ partition }) => (partition ? `${QUEUE}-partition` : QUEUE);

await drive({
  version: async () => version("pg-boss"),

  async load() {
    await load("pg-boss");
    return {};
  },

  async prepare(options) {
    const boss = await open(options);
    await boss.createQueue(QUEUE);
    await boss.createQueue(`${QUEUE}-partition`, { partition: true });
    await boss.stop({ graceful: false });
    return {};
  },

  async fill(options) {
    const boss = await open(options);
    for (const name of [QUEUE, `${QUEUE}-partition`]) {
      for (let start = 0; start < options.jobs; start += CHUNK) {
        const size = Math.min(CHUNK, options.jobs - start);
        await insert(boss, name, size);
      }
    }
    await boss.stop({ graceful: false });
    return {};
  },

  async work(options) {
    const meter = new Meter();
    const boss = await open(options, { migrate: false });
    await waitForGo();
    cycle(boss, queue(options), options, (jobs) => meter.count(jobs));
    return await meter.watch(options);
  },

  // As work, for as long as wanted: as many jobs are added as are done.
  async press(options) {
    const recorder = new Recorder();
    let done = 0;
    const boss = await open({ ...options, loops: options.loops + 1 }, { migrate: false });
    const name = queue(options);
    const count = (jobs) => {
      done += jobs;
      recorder.count(jobs);
    };
    await waitForGo();
    cycle(boss, name, options, count, (seconds) => recorder.took(seconds));
    return await feedUntilStopped(recorder, options.jobs, () => done, () => insert(boss, name));
  },
});
