// graphile-worker.
//
// Settings: concurrency, how many jobs run at once; local_queue, how many jobs are fetched at once
// (none: each is fetched by itself); complete_delay, the milliseconds that a completion waits for
// others (none: each is written by itself); pool, the number of connections.

import { Meter, Recorder, drive, feedUntilStopped, load, now, sleep, version, waitForGo } from "./driving.mjs";

const CHUNK = 10000;
const silent = { error: console.error, warn() {}, info() {}, debug() {} };

async function preset({ url, concurrency = 1, local_queue, complete_delay, pool }) {
  const { Logger } = await load("graphile-worker");
  return {
    worker: {
      connectionString: url,
      concurrentJobs: concurrency,
      maxPoolSize: pool ?? Math.max(10, concurrency + 2),
      preparedStatements: true,
      pollInterval: 2000,
      logger: new Logger(() => (level, message) => (silent[level] ?? silent.info)(message)),
      ...(local_queue ? { localQueue: { size: local_queue } } : {}),
      ...(complete_delay === undefined ? {} : { completeJobBatchDelay: complete_delay }),
    },
  };
}

async function withUtils(options, act) {
  const { makeWorkerUtils } = await load("graphile-worker");
  const utils = await makeWorkerUtils({ preset: await preset(options) });
  await act(utils);
  await utils.release();
  return {};
}

async function addJobs(utils, size = 2000) {
  await utils.addJobs(Array.from({ length: size }, () => ({ identifier: "task", payload: {} })));
  return size;
}

async function start(options, task) {
  const { run } = await load("graphile-worker");
  return await run({ preset: await preset(options), noHandleSignals: true, taskList: { task } });
}

await drive({
  version: async () => version("graphile-worker"),

  async load() {
    await load("graphile-worker");
    return {};
  },

  prepare: (options) => withUtils(options, (utils) => utils.migrate()),

  fill: (options) =>
    withUtils(options, async (utils) => {
      for (let start = 0; start < options.jobs; start += CHUNK) {
        await addJobs(utils, Math.min(CHUNK, options.jobs - start));
      }
    }),

  async work(options) {
    const meter = new Meter();
    await load("graphile-worker");
    await waitForGo();
    await start(options, () => meter.count());
    return await meter.watch(options);
  },

  // As work, for as long as wanted: as many jobs are added as are done. When each is fetched by
  // itself, its worker says when it asks and when it has got one.
  async press(options) {
    const recorder = new Recorder();
    const asked = new Map();
    let done = 0;
    await load("graphile-worker");
    await waitForGo();
    const runner = await start(options, () => {
      done += 1;
      recorder.count();
    });
    if (!options.local_queue) {
      runner.events.on("worker:getJob:start", ({ worker }) => asked.set(worker.workerId, now()));
      runner.events.on("job:start", ({ worker }) => {
        if (asked.has(worker.workerId)) recorder.took(now() - asked.get(worker.workerId));
        asked.delete(worker.workerId);
      });
    }
    let answer;
    await withUtils(options, async (utils) => {
      answer = await feedUntilStopped(recorder, options.jobs, () => done, () => addJobs(utils));
    });
    return answer;
  },

  // From before a job is added to the start of its task, each when the worker is at rest.
  async latency(options) {
    let started;
    const milliseconds = [];
    const runner = await start(options, () => started());
    await sleep(0.5);
    for (let sample = -options.warm_up; sample < options.samples; sample++) {
      const start = now();
      const seen = new Promise((resolve) => (started = () => resolve(now())));
      await runner.addJob("task", {});
      const took = ((await seen) - start) * 1000;
      if (sample >= 0) milliseconds.push(took);
      await sleep(options.pause * (0.5 + Math.random()));
    }
    return { milliseconds };
  },
});
