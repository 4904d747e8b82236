// Follows the jobs of one upload until all of them are done, and shows how they stand.

import { byId, count, say, stamp, time } from "./help.js";

const sleep = (ms) => new Promise((wake) => setTimeout(wake, ms));

export async function follow(batch, cards, receipts, answered) {
  const start = performance.now();
  const followed = receipts.flatMap(({ jobs }, i) => jobs.map((job) => ({ job, card: cards[i], row: stamp("job") })));
  for (const each of followed) {
    each.card.querySelector(".jobs").append(each.row);
    show(each);
  }
  batch.classList.add("answered");
  say(`Answered in ${time(answered)}.`);

  for (let pause = 50; ; pause = Math.min(1.25 * pause, 1000)) {
    const open = followed.filter(({ job }) => !job.done);
    narrate(batch, followed, answered, open.length ? performance.now() - start : null);
    if (!open.length) return;
    await sleep(pause);
    await refresh(open.slice(0, 50));
  }
}

async function refresh(open) {
  const ids = new URLSearchParams(open.map(({ job }) => ["id", job.id]));
  const response = await fetch(`jobs?${ids}`).catch(() => null);
  const jobs = response?.ok ? await response.json() : null;
  byId("offline").hidden = jobs !== null;
  if (!jobs) return;
  for (const each of open) {
    const lost = { ...each.job, state: "lost", done: true, error: "The server no longer knows this job." };
    each.job = jobs.find(({ id }) => id === each.job.id) ?? lost;
    show(each);
  }
}

function narrate(batch, followed, answered, elapsed) {
  const bold = (text) => Object.assign(document.createElement("b"), { textContent: text });
  const story = batch.querySelector(".story");
  const jobs = followed.map(({ job }) => job);
  const worked = elapsed ?? Math.max(0, ...jobs.map((job) => lasted(job.created_at, job.finished_at)));
  const [sending, working] = batch.querySelector(".timeline").children;
  sending.style.flexGrow = answered;
  working.style.flexGrow = worked;
  story.replaceChildren("Answered in ", bold(time(answered)), ", ");
  if (elapsed !== null) return story.append("now working");

  const failed = jobs.filter(({ state }) => state !== "succeeded").length;
  story.append("all work done ", bold(time(worked)), " later");
  if (failed) story.append(`, ${count(failed, "job")} failed`);
  batch.classList.add("done");
  say(story.textContent);
}

// Both ends by the server's clock. A job is made just before the answer.
const lasted = (from, to) => (from && to ? Date.parse(to) - Date.parse(from) : 0);

const MARKS = { staged: "waiting", discarded: "cancelled", lost: "failed" };

function show({ job, card, row }) {
  const find = (selector) => row.querySelector(selector);
  const name = card.querySelector(".name").textContent;
  row.className = `job ${job.state}`;
  find("use").setAttribute("href", `#${MARKS[job.state] ?? job.state}`);
  find(".handler").textContent = job.handler;
  const { state, started_at, finished_at } = job;
  const length = started_at && finished_at ? ` in ${time(lasted(started_at, finished_at))}` : "";
  find(".state").textContent = state + length;
  find("progress").hidden = job.done || !job.progress;
  find("progress").value = job.progress?.fraction ?? 0;
  find("progress").ariaLabel = `${job.handler} of ${name}`;
  find(".outcome").textContent = job.error ?? "";
  if (job.error) say(`${job.handler} of ${name} failed: ${job.error}`);
  if (job.result) find(".outcome").append(...RESULTS[job.handler](job.result, card));
}

const RESULTS = {
  checksum: ({ sha256, size }) => {
    const code = Object.assign(document.createElement("code"), { textContent: sha256 });
    return [code, document.createElement("br"), count(size, "byte")];
  },
  thumbnail: ({ width, height, thumbnail }, card) => {
    const alt = `Thumbnail of ${card.querySelector(".name").textContent}`;
    card.querySelector(".picture").replaceChildren(Object.assign(new Image(), { src: thumbnail, alt }));
    return [`${width} × ${height} pixels`];
  },
};
