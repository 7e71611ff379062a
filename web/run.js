// @ts-check
/** A table's images, their state, and the prompts in the queue that make them. */

import { BATCH, ROW, setInputs, WHOLE } from "./graph.js";
import { newPromptId, readPromptId, runPrefix } from "./prompt_id.js";
import { cancelJobs, listJobs, queuePrompt } from "./server.js";
import { look, nextQuestion } from "./table.js";

/** @typedef {import("./graph.js").Maker} Maker */
/** @typedef {import("./graph.js").Prompt} Prompt */
/** @typedef {import("./server.js").ServerJob} ServerJob */
/** @typedef {import("./table.js").Look} Look */
/** @typedef {"todo" | "queued" | "running" | "done" | "failed"} State */
/** @typedef {{row: number, variant: number, id: string, file: string, state: State, error: string, version: number}} Job */
/** @typedef {{number: number, variant: number, jobs: Job[]}} Unit what one prompt makes */

const POLL_MS = 3000;
const TIMES_KEPT = 60;
const NOTIFY_MS = 100;

/** @type {Map<string, Run>} */
const runs = new Map();

/**
 * The run of a node, as the server has it now.
 *
 * @param {Maker} maker
 * @throws {import("./table.js").TableError} the table cannot be used
 */
export async function openRun(maker) {
  const found = await look(maker.table);
  const prefix = runPrefix(found.folder, [maker.type, maker.table, maker.inputs.rows_per_batch]);
  const run = runs.get(prefix) ?? new Run(prefix, maker, found.folder);
  for (const [key, other] of runs) if (other.maker.id === maker.id && !other.isBusy) runs.delete(key);
  runs.set(prefix, run);
  run.maker = maker;
  run.update(found);
  if (!run.queueing) await run.sync();
  return run;
}

/** @param {string} promptId */
export const runOf = (promptId) => runs.get(readPromptId(promptId).prefix);

export const knownRuns = () => [...runs.values()];

/**
 * Events: "change"; "finished" when none of its prompts is left, with whether something ran that gave no file.
 */
export class Run extends EventTarget {
  /** @type {Job[]} */
  jobs = [];
  /** @type {{done: number, total: number} | null} what is just being queued */
  queueing = null;
  /** @type {Map<string, Unit>} by prompt id: what the server still has of us */
  #open = new Map();
  /** @type {Set<string>} prompt ids whose end was heard, perhaps while the server was being asked */
  #ended = new Set();
  /** @type {Unit[]} */
  #units = [];
  /** @type {number[]} */
  #times = [];
  /** @type {Set<Job>} what prompts ended well for, whether or not there is a file */
  #made = new Set();
  /** Whether prompts of ours are, or were, in the queue since "finished". */
  #active = false;
  #stopped = false;
  #looking = false;
  #notified = 0;
  #asked = 0;
  #polling = 0;

  /**
   * @param {string} prefix
   * @param {Maker} maker
   * @param {string} folder below ComfyUI's output folder
   */
  constructor(prefix, maker, folder) {
    super();
    this.prefix = prefix;
    this.maker = maker;
    this.folder = folder;
  }

  get isBusy() {
    return this.queueing !== null || this.#open.size > 0;
  }

  /** @returns {Record<State, number>} */
  get counts() {
    const counts = { todo: 0, queued: 0, running: 0, done: 0, failed: 0 };
    for (const job of this.jobs) counts[job.state]++;
    return counts;
  }

  /** Images a minute, over the last ones; 0 where not known. */
  get rate() {
    const [first, last] = [this.#times[0], this.#times.at(-1) ?? 0];
    return last > first ? ((this.#times.length - 1) * 60000) / (last - first) : 0;
  }

  /**
   * Take over which images are done, unless more is known since the question.
   *
   * @param {Look} found
   */
  update(found) {
    if (found.asked < this.#asked) return;
    this.#asked = found.asked;
    const known = new Map(this.jobs.map((job) => [`${job.row} ${job.variant}`, job]));
    this.jobs = found.jobs.map(({ done, ...now }) => {
      const job = known.get(`${now.row} ${now.variant}`) ?? { ...now, state: "todo", error: "", version: 0 };
      if (done && job.state !== "done") this.#count(job);
      if (done !== (job.state === "done")) job.state = done ? "done" : "todo";
      return Object.assign(job, now);
    });
    this.#units = unitsOf(this.maker, this.jobs);
    this.#notify();
  }

  /** Take over what is in the server's queue, and what failed; what is queued while it answers stays. */
  async sync() {
    const before = [...this.#open.keys()];
    const jobs = (await listJobs("pending,in_progress,failed")).filter(({ id }) => id.startsWith(this.prefix));
    const units = new Map(this.#units.map((unit) => [`${unit.number} ${unit.variant}`, unit]));
    for (const id of before) this.#open.delete(id);
    for (const job of this.jobs) if (job.state !== "done") job.state = "todo";
    for (const { id, status, execution_error: error } of jobs.reverse()) {
      const { number, variant } = readPromptId(id);
      const unit = units.get(`${number} ${variant}`);
      if (!unit) continue;
      if (status === "failed") this.#mark(unit, "failed", error?.exception_message);
      else if (!this.#ended.has(id)) this.#open.set(id, unit);
    }
    const running = new Set(jobs.filter(({ status }) => status === "in_progress").map(({ id }) => id));
    for (const [id, unit] of this.#open)
      this.#mark(unit, running.has(id) && this.maker.type !== WHOLE ? "running" : "queued");
    if (this.#open.size) this.#active = true;
    if (this.#open.size && this.maker.type === WHOLE) this.#poll();
    this.#notify();
  }

  async refresh() {
    this.update(await look(this.maker.table));
    await this.sync();
  }

  /**
   * Queue what is neither done nor queued.
   *
   * @param {Prompt} prompt the graph; changed in place from row to row
   * @returns {Promise<number>} how many prompts that were
   * @throws {Error} the server refuses the graph, or cannot be reached; what was queued before stays
   */
  async queueAll(prompt) {
    this.queueing = { done: 0, total: 0 };
    this.#stopped = false;
    this.#times = [];
    try {
      await this.refresh();
      const open = new Set(this.#open.values());
      const wanted = this.#units.filter((unit) => !open.has(unit) && unit.jobs.some((job) => job.state !== "done"));
      this.queueing.total = wanted.length;
      for (const unit of wanted) {
        if (this.#stopped) break;
        await this.#queue(unit, prompt);
        this.queueing.done++;
        this.#notify();
      }
      return this.queueing.done;
    } finally {
      this.queueing = null;
      this.#settle();
    }
  }

  /** Take our prompts for this folder out of the queue. What is done stays. */
  async cancel() {
    this.#stopped = true;
    while (this.queueing) await new Promise((resume) => setTimeout(resume, 20));
    const [folder] = this.prefix.split("-");
    await cancelJobs((id) => id.startsWith(`${folder}-`));
    await this.sync();
    this.#settle();
  }

  /** @param {string} id */
  started(id) {
    const unit = this.#open.get(id);
    if (!unit) return;
    if (this.maker.type === WHOLE) this.#poll();
    else this.#mark(unit, "running");
    this.#notify();
  }

  /**
   * @param {string} id
   * @param {State} state
   * @param {string} [error]
   */
  ended(id, state, error) {
    const unit = this.#open.get(id);
    this.#ended.add(id);
    if (!unit) return void this.refresh().catch(goneTable);
    this.#open.delete(id);
    this.#asked = nextQuestion();
    for (const job of unit.jobs) {
      if (state === "done") this.#made.add(job);
      if (state === "done" && job.state !== "done" && this.maker.type !== WHOLE) this.#count(job);
    }
    this.#mark(unit, state === "done" && this.maker.type === WHOLE ? "todo" : state, error);
    this.#settle();
  }

  /**
   * Look again where the server has fewer prompts left than we believe are ours: we did not hear of an end.
   *
   * @param {number} remaining of anyone
   */
  async remaining(remaining) {
    if (this.queueing || this.#looking || remaining >= this.#open.size) return;
    this.#looking = true;
    await this.sync().finally(() => (this.#looking = false));
    await this.#settle();
  }

  /**
   * @param {Unit} unit
   * @param {Prompt} prompt
   */
  async #queue(unit, prompt) {
    const { number, variant } = unit;
    const { id, type } = this.maker;
    setInputs(prompt, id, type === ROW ? { row: number, variant } : type === BATCH ? { start: number } : {});
    const promptId = newPromptId(this.prefix, number, variant);
    this.#open.set(promptId, unit);
    this.#active = true;
    this.#mark(unit, "queued");
    try {
      await queuePrompt(promptId, prompt);
    } catch (error) {
      this.#open.delete(promptId);
      this.#mark(unit, "todo");
      throw error;
    }
  }

  /**
   * @param {Unit} unit
   * @param {State} state
   * @param {string} [error]
   */
  #mark(unit, state, error = "") {
    for (const job of unit.jobs) if (job.state !== "done") Object.assign(job, { state, error });
  }

  /** @param {Job} job */
  #count(job) {
    job.version = Date.now();
    if (this.#active) this.#times.push(job.version);
    if (this.#times.length > TIMES_KEPT) this.#times.shift();
  }

  /** A node that makes the whole table tells nothing of single rows: look at the files. */
  #poll() {
    if (this.#polling) return;
    this.#polling = setTimeout(async () => {
      await look(this.maker.table).then((found) => this.update(found), goneTable);
      this.#polling = 0;
      if (this.#open.size) this.#poll();
    }, POLL_MS);
  }

  async #settle() {
    this.#notify();
    if (this.isBusy || !this.#active) return;
    this.#active = false;
    const made = [...this.#made];
    this.#made.clear();
    await this.refresh().catch(goneTable);
    this.dispatchEvent(new CustomEvent("finished", { detail: made.some((job) => job.state !== "done") }));
  }

  #notify() {
    this.#notified ||= setTimeout(() => {
      this.#notified = 0;
      this.dispatchEvent(new Event("change"));
    }, NOTIFY_MS);
  }
}

/** The table was moved or broken meanwhile: its node says so, and what is known stays. */
function goneTable() {}

/**
 * @param {Maker} maker
 * @param {Job[]} jobs
 * @returns {Unit[]}
 */
function unitsOf({ type, inputs }, jobs) {
  if (type === WHOLE) return [{ number: 0, variant: 0, jobs }];
  if (type === ROW) return jobs.map((job) => ({ number: job.row, variant: job.variant, jobs: [job] }));
  const size = Number(inputs.rows_per_batch);
  return Array.from({ length: Math.ceil(jobs.length / size) }, (_, i) => ({
    number: i * size + 1,
    variant: 0,
    jobs: jobs.slice(i * size, (i + 1) * size),
  }));
}
