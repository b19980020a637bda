// A worker in Node with pg: worker.mjs HOSTNAME COMMAND... runs `COMMAND... URL` for one import
// after the other; exit code 0 is a success. PG* variables name the database.
import { spawn } from "node:child_process";
import pg from "pg";

const [hostname, ...command] = process.argv.slice(2), beat = 1000 * (process.env.BEAT ?? 15);
const db = new pg.Client();
const ask = async (what, ...values) => (await db.query(`select ${what}`, values)).rows[0];
let work = null, over = false, news = false, wake = () => {};
const nap = (ms) => new Promise((ok) => { wake = ok; setTimeout(ok, news ? 0 : ms).unref(); });
const kill = () => { try { process.kill(-work.pid, "SIGKILL"); } catch { /* none is left */ } };
process.on("exit", kill).on("SIGTERM", () => { over = news = true; wake(); });  // releases its run
db.on("notification", () => { if (!work) { news = true; wake(); } });

async function run({ id, url }) {
  let log = "", status = null, ended = false;
  work = spawn(command[0], [...command.slice(1), url], { detached: true });  // a process group
  const keep = (text) => { log = (log + text.replaceAll("\0", "")).slice(-60_000); };
  for (const out of [work.stdout, work.stderr]) out.setEncoding("utf8").on("data", keep);
  work.on("close", (code) => { status ??= code === 0 ? "success" : "failure"; wake(); });
  while (!ended) {
    if (!status && !over) await nap(beat);
    ended = status || over;  // what is told now is all that there is
    const told = await ask("vcs.code_import_job_update_heartbeat($1, $2) as directive", id, log);
    if (told.directive === "stop") ended = status ??= "killed";
  }
  kill();
  await (status ? ask("vcs.code_import_job_finish($1, $2)", id, status)
    : ask("vcs.code_import_job_release($1)", id));
}
await db.connect().then(() => db.query("listen code_import_job_due"));
await ask(`vcs.code_import_job_reclaim(id) from vcs.code_import_assignment where machine_id =
  (select id from vcs.code_import_machine where hostname = $1)`, hostname);  // of an earlier life
for (; !over; work = null, news = false) {
  const job = await ask("id, url from vcs.code_import_job_for_machine($1, 1, '{git}')", hostname);
  if (!job) await nap(1000 * (await ask(`greatest(1, extract(epoch from least(now() + '1 min',
    vcs.code_import_job_next_due($1, '{git}')) - now())) as seconds`, hostname)).seconds);
  if (job) await run(job).catch((err) => { kill(); if (err.code !== "IJ410") console.error(err); });
}
await db.end();
