// pg-boss: fetch and complete in loops, which leaves out the pauses of its workers.
//
// Settings: batch, how many jobs a fetch takes; loops, how many fetch side by side;
// partition, whether the queue has a table of its own.

import { QUEUE, Meter, drive, load, sleep, version, waitForGo } from "./driving.mjs";

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
        const jobs = Array.from({ length: size }, () => ({ name, data: null }));
        await (boss.insert.length === 1 ? boss.insert(jobs) : boss.insert(name, jobs));
      }
    }
    await boss.stop({ graceful: false });
    return {};
  },

  async work(options) {
    const meter = new Meter();
    const boss = await open(options, { migrate: false });
    const name = options.partition ? `${QUEUE}-partition` : QUEUE;
    await waitForGo();
    for (let loop = 0; loop < options.loops; loop++) {
      (async () => {
        for (;;) {
          const jobs = await boss.fetch(name, { batchSize: options.batch });
          if (jobs.length === 0) await sleep(0.01);
          else {
            await boss.complete(name, jobs.map((job) => job.id));
            meter.count(jobs.length);
          }
        }
      })();
    }
    return await meter.watch(options);
  },
});
