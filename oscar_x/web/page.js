"use strict";

const at = id => document.getElementById(id);
let colors = {modalities: {}, parts: {}, full: ""};  // as the server says, so that pictures agree
let clip = null;
let local = null;
let linkedQuestion = null;

function make(name, properties, ...children) {
  const made = Object.assign(document.createElement(name), properties);
  made.append(...children);
  return made;
}

function bytes(count) {
  const units = ["B", "KiB", "MiB", "GiB"];
  let unit = 0;
  while (count >= 1024 && unit < 3) { count /= 1024; unit += 1; }
  return `${count.toFixed(unit ? 1 : 0)} ${units[unit]}`;
}

function say(text, wrong = false) {
  at("state").textContent = text;
  at("state").className = wrong ? "wrong" : "";
}

function busy(is) {
  for (const id of ["question", "ask"]) at(id).disabled = is || clip === null;
  for (const button of document.querySelectorAll("#suggestions button, #example")) button.disabled = is;
  at("file").disabled = is;
}

async function fetched(path, options) {
  const response = await fetch(path, options);
  if (!response.ok) {
    const reason = await response.json().catch(() => ({error: `the server said ${response.status}`}));
    throw new Error(reason.error);
  }
  return response;
}

async function read(path, options, what) {
  clip = null;
  busy(true);
  say(`Reading ${what} into both caches ...`);
  try {
    show(await (await fetched(path, options)).json());
  } catch (error) {
    say(error.message, true);
    at("held").hidden = true;
  }
  busy(false);
  if (clip === null) return;
  at("question").focus();
  if (linkedQuestion !== null) {
    [at("question").value, linkedQuestion] = [linkedQuestion, null];
    ask();
  }
}

function show(found) {
  clip = found.clip;
  const tokens = found.band.reduce((sum, run) => sum + run[1], 0);
  const [full, packed] = found.sides;
  say(`${tokens.toLocaleString("en")} tokens read: ${full.read_seconds.toFixed(1)} s into the ${full.name}, ` +
    `${packed.read_seconds.toFixed(1)} s into the ${packed.name}.`);
  if (found.pictures.length) {
    at("preview").replaceChildren(...found.pictures.map(src => make("img", {src, alt: "a frame of the clip"})));
  }
  at("suggestions").replaceChildren(...(found.questions || []).map(question => {
    const button = make("button", {type: "button", title: `right: ${question.answer}`}, question.text);
    button.addEventListener("click", () => { at("question").value = question.text; ask(); });
    return button;
  }));
  document.querySelectorAll(".answer").forEach((card, side) => {
    card.querySelector("h3").textContent = found.sides[side].name;
    card.querySelector(".text").textContent = "";
    card.querySelector(".hint").textContent = "";
  });
  at("held").hidden = false;
  bars(found.sides);
  band(found.band);
  at("tni").src = `clips/${clip}/tni.png`;
}

function bars(sides) {
  const most = Math.max(...sides.map(side => side.memory.total));
  at("bars").replaceChildren(...sides.map((side, index) => {
    const parts = index ? Object.entries(colors.parts).map(([name, color]) => [name, side.memory[name], color])
      : [["full cache", side.memory.total, colors.full]];
    const track = make("div", {className: "track"}, ...parts.filter(part => part[1] > 0).map(([name, size, color]) => {
      const piece = make("span", {title: `${name}: ${bytes(size)}`});
      piece.style.width = `${100 * size / most}%`;
      piece.style.background = color;
      return piece;
    }));
    const size = make("span", {className: "size"}, bytes(side.memory.total));
    return make("div", {className: "bar"}, make("span", {}, side.name), track, size);
  }), legend(colors.parts, name => sides[1].memory[name] ? bytes(sides[1].memory[name]) : null));
  const [full, packed] = sides.map(side => side.memory);
  at("ratio").textContent = `${(full.total / packed.total).toFixed(1)} times smaller; ` +
    `${packed.bits_per_element.toFixed(2)} bits an element where packed. Codes, scales and norms grow with the clip; ` +
    "slack, room for exact tokens, does not.";
}

function legend(colors, words) {
  return make("p", {className: "legend"}, ...Object.entries(colors).flatMap(([name, color]) => {
    const said = words(name);
    if (said === null) return [];
    const square = make("i", {});
    square.style.background = color;
    return [make("span", {className: "key"}, square, `${name} ${said}`)];
  }));
}

function band(runs) {
  const total = runs.reduce((sum, run) => sum + run[1], 0);
  const canvas = make("canvas", {width: 1600, height: 1});
  const pen = canvas.getContext("2d");
  const counts = {};
  let start = 0;
  for (const [kind, count] of runs) {
    pen.fillStyle = colors.modalities[kind];
    pen.fillRect(1600 * start / total, 0, Math.max(1, 1600 * count / total), 1);
    start += count;
    counts[kind] = (counts[kind] || 0) + count;
  }
  at("band").replaceChildren(canvas);
  at("legend").replaceChildren(legend(colors.modalities, name => counts[name] ? counts[name].toLocaleString("en") : null));
}

async function ask() {
  const question = at("question").value.trim();
  if (!question || clip === null) return;
  const cards = [...document.querySelectorAll(".answer")];
  busy(true);
  for (const card of cards) {
    card.classList.add("busy");
    card.querySelector(".text").textContent = card.querySelector(".hint").textContent = "";
  }
  try {
    const response = await fetched(`clips/${clip}/answers`, {method: "POST", body: question});
    await lines(response.body, piece => {
      if (piece.error) throw new Error(piece.error);
      if (piece.side === undefined) return;
      const card = cards[piece.side];
      card.querySelector(".text").textContent = piece.text.trim();
      if (piece.seconds.length) {
        card.querySelector(".hint").textContent = `first word after ${piece.seconds[0].toFixed(2)} s`;
      }
    });
  } catch (error) {
    say(error.message, true);
  }
  for (const card of cards) card.classList.remove("busy");
  busy(false);
  document.body.dataset.answered = question;
}

async function lines(stream, take) {
  const reader = stream.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const {value, done} = await reader.read();
    if (done) return;
    const found = (rest + value).split("\n");
    rest = found.pop();
    found.forEach(line => take(JSON.parse(line)));
  }
}

function upload(file) {
  if (local) URL.revokeObjectURL(local);
  local = URL.createObjectURL(file);
  const kind = file.type.split("/")[0];
  const player = {video: "video", audio: "audio", image: "img"}[kind];
  at("preview").replaceChildren(...(player ? [make(player, {src: local, controls: true})] : []));
  read("clips", {method: "POST", body: file, headers: {"Content-Type": file.type || "application/octet-stream"}}, file.name);
}

at("form").addEventListener("submit", event => { event.preventDefault(); ask(); });
at("file").addEventListener("change", () => { if (at("file").files.length) upload(at("file").files[0]); });
at("example").addEventListener("click", () => { at("preview").replaceChildren(); read("example", {method: "POST"}, "the example"); });
for (const name of ["dragover", "dragleave", "drop"]) {
  at("drop").addEventListener(name, event => {
    event.preventDefault();
    at("drop").classList.toggle("over", name === "dragover");
    if (name === "drop" && event.dataTransfer.files.length) upload(event.dataTransfer.files[0]);
  });
}
fetched("model").then(response => response.json()).then(model => {
  colors = model.colors;
  at("model").textContent = model.name;
  at("allowed").textContent = `${model.reads.join(", ")}; at most ${bytes(model.max_bytes)} and ${model.max_seconds / 60} minutes`;
  document.querySelector(".answer.packed h3").textContent = `${model.bits}-bit cache`;
  const linked = location.hash.match(/^#example(?:=(.*))?$/);  // a link to the example, and to a question about it
  if (linked) {
    at("example").click();
    linkedQuestion = linked[1] ? decodeURIComponent(linked[1]) : null;
  }
}).catch(error => say(error.message, true));
