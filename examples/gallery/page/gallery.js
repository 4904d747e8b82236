// Takes files from the picker or dropped on the window, sends them as one form, and awaits the one answer.

import { byId, bytes, count, say, stamp } from "./help.js";
import { follow } from "./jobs.js";

byId("shell").textContent = `curl -F files=@photo.jpg -F files=@notes.txt ${location.origin}/uploads
curl ${location.origin}/jobs`;

byId("files").addEventListener("change", ({ target }) => {
  send([...target.files]);
  target.value = ""; // so that the same file can be chosen again
});

let depth = 0; // dragenter and dragleave come for every element on the way
const drag = {
  dragenter: () => (depth += 1),
  dragleave: () => (depth -= 1),
  dragover: () => {},
  drop: ({ dataTransfer }) => {
    depth = 0;
    const items = [...dataTransfer.items].filter((item) => item.kind === "file");
    const files = items.filter((item) => !item.webkitGetAsEntry()?.isDirectory);
    send(files.map((item) => item.getAsFile()), items.length - files.length);
  },
};
for (const [type, act] of Object.entries(drag)) {
  addEventListener(type, (event) => {
    if (!event.dataTransfer.types.includes("Files")) return;
    event.preventDefault();
    act(event);
    document.body.classList.toggle("dragging", depth > 0);
  });
}

function send(files, folders = 0) {
  byId("no-folders").hidden = !folders;
  if (!files.length) return;
  const batch = stamp("batch");
  const cards = files.map(card);
  const find = (selector) => batch.querySelector(selector);
  const size = files.reduce((sum, file) => sum + file.size, 0);
  find(".count").textContent = `${count(files.length, "file")}, ${bytes(size)}`;
  find(".files").append(...cards);
  byId("batches").prepend(batch);
  say(`Uploading ${count(files.length, "file")}.`);

  const form = new FormData();
  for (const file of files) form.append("files", file);
  const request = new XMLHttpRequest(); // fetch() does not tell how much it has sent
  const start = performance.now();

  request.upload.onprogress = ({ loaded, total }) => {
    find("progress").value = loaded / total;
    const percent = Math.floor((100 * loaded) / total);
    find(".story").textContent = percent < 100 ? `Uploading, ${percent} %` : "Uploaded, waiting for the answer";
  };
  request.onload = () => {
    if (request.status !== 202) return fail(`The server refused this upload: ${request.status} ${request.statusText}`);
    follow(batch, cards, request.response, performance.now() - start);
  };
  request.onerror = () => fail("The upload broke off. Is the server still there, and can the files be read?");
  const fail = (reason) => {
    batch.classList.add("failed");
    find(".story").textContent = reason;
    say(reason);
  };
  request.open("POST", "uploads");
  request.responseType = "json";
  request.send(form);
}

function card({ name, size }) {
  const element = stamp("file");
  element.querySelector(".name").textContent = element.querySelector(".name").title = name;
  element.querySelector(".size").textContent = bytes(size);
  element.querySelector(".picture").textContent = /\.(\w{1,5})$/.exec(name)?.[1] ?? "file";
  return element;
}
