"""The demo page: one text without anything from elsewhere, light and dark, for any width."""

from __future__ import annotations

POLICY = (
    "default-src 'none'; img-src data: blob:; media-src data:; style-src 'unsafe-inline'; "
    "script-src 'unsafe-inline'; connect-src 'self'; base-uri 'none'; form-action 'none'"
)
"""The browser itself refuses every load from elsewhere."""

PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>gancompress demo</title>
<style>
:root { color-scheme: light dark; --ink: #1c1c1c; --paper: #fff; --line: #d5d5d5; --soft: #5a5a5a;
  --accent: #1b5fbf; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #ececec; --paper: #161616; --line: #3c3c3c; --soft: #a8a8a8; --accent: #7fb2ff; } }
* { box-sizing: border-box; }
[hidden] { display: none !important; }
body { font: 16px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--paper);
  max-width: 72rem; margin: 0 auto; padding: 1rem; }
h1 { font-size: 1.3rem; margin: 0 0 .2rem; overflow-wrap: anywhere; }
h2 { font-size: 1.05rem; margin: 0; }
p { margin: .2rem 0 .8rem; color: var(--soft); }
form { display: flex; flex-wrap: wrap; gap: .6rem 1rem; align-items: end; margin: .8rem 0 1rem; }
label { display: grid; gap: .15rem; font-size: .85rem; color: var(--soft); }
input, select, button { font: inherit; color: inherit; background: var(--paper);
  border: 1px solid var(--line); border-radius: .3rem; padding: .35rem .6rem; min-height: 2.4rem; }
input[type=number] { width: 7.5rem; }
input[type=file] { max-width: 100%; }
button { background: var(--accent); color: var(--paper); border-color: var(--accent);
  cursor: pointer; }
button.second { background: var(--paper); color: var(--accent); }
:focus-visible { outline: 3px solid var(--accent); outline-offset: 2px; }
#columns { display: grid; gap: 1rem; grid-template-columns: repeat(auto-fit, minmax(17rem, 1fr)); }
section { border: 1px solid var(--line); border-radius: .4rem; padding: .8rem; min-width: 0; }
section p { margin: 0 0 .6rem; font-variant-numeric: tabular-nums; }
.media { display: grid; grid-template-columns: repeat(auto-fill, minmax(4.5rem, 1fr)); gap: .3rem; }
.media.one { grid-template-columns: 1fr; }
.media img { width: 100%; height: auto; display: block; image-rendering: pixelated; }
audio { width: 100%; }
#said { min-height: 1.5rem; }
#said.error { color: #c0392b; }
</style>
</head>
<body>
<h1 id="title">gancompress demo</h1>
<p id="about"></p>
<form id="form">
<label><span id="seed-name">Seed</span>
<input id="seed" type="number" min="0" max="2147483647" value="0"></label>
<label id="class-box" hidden>Class<select id="class"></select></label>
<label id="count-box">Samples<select id="count"><option>1</option><option>4</option>
<option selected>8</option><option>16</option></select></label>
<button type="submit">Generate</button>
<button type="button" class="second" id="next">Next</button>
<label id="picture-box" hidden>Your own picture
<input id="picture" type="file" accept="image/*"></label>
</form>
<p id="said" role="status" aria-live="polite"></p>
<div id="columns"></div>
<script>
const at = id => document.getElementById(id);
let busy = false;
function said(text, error) {
  at("said").textContent = text; at("said").className = error ? "error" : "";
}
function column(name, text, media) {
  const box = document.createElement("section"), head = document.createElement("h2");
  const line = document.createElement("p"), grid = document.createElement("div");
  head.textContent = name; line.textContent = text;
  grid.className = media.length === 1 || media[0].kind === "sound" ? "media one" : "media";
  media.forEach((one, i) => {
    const made = document.createElement(one.kind === "sound" ? "audio" : "img");
    if (one.kind === "sound") { made.controls = true; made.setAttribute("aria-label", name); }
    else made.alt = name + " " + (i + 1);
    made.src = one.data; grid.append(made);
  });
  box.append(head, line, grid); return box;
}
function show(found) {
  const boxes = [], names = Object.keys(found.outputs), first = found.outputs[names[0]].ms;
  for (const [name, media] of Object.entries(found.beside)) boxes.push(column(name, "", media));
  for (const name of names) {
    const one = found.outputs[name], times = first / one.ms;
    const more = name === names[0] ? "" : ", " + times.toFixed(2) + "x as fast";
    boxes.push(column(name, one.ms.toFixed(1) + " ms for " + found.samples +
      (found.samples === 1 ? " sample" : " samples") + more, one.media));
  }
  at("columns").replaceChildren(...boxes);
  const gap = found.mean_difference;
  said(gap === undefined ? "" : "Mean difference of the outputs: " + gap.toPrecision(3));
}
async function ask(address, options) {
  if (busy) return;
  busy = true; said("Generating ...");
  try {
    const answer = await fetch(address, options), found = await answer.json();
    if (answer.ok) show(found); else said(found.error, true);
  } catch (error) { said("The demo does not answer: is it still running?", true); }
  busy = false;
}
function generate() {
  const words = new URLSearchParams({ seed: at("seed").value || "0", n: at("count").value });
  if (at("class").value) words.set("class", at("class").value);
  return ask("generate?" + words);
}
at("form").addEventListener("submit", event => { event.preventDefault(); generate(); });
at("next").addEventListener("click", () => {
  at("seed").value = Number(at("seed").value) + 1; generate();
});
at("picture").addEventListener("change", () => {
  const file = at("picture").files[0];
  if (file) ask("picture", { method: "POST", body: file });
});
fetch("about").then(answer => answer.json()).then(about => {
  at("title").textContent = document.title = about.title;
  const sizes = Object.entries(about.networks).map(
    ([name, n]) => name + ": " + n.toLocaleString("en") + " parameters");
  at("about").textContent = sizes.join(", ") + ". Times: median of up to five calls in turns, " +
    about.threads + (about.threads === 1 ? " thread." : " threads.");
  if (about.classes) {
    at("class-box").hidden = false;
    at("class").add(new Option("any", ""));
    for (let i = 0; i < about.classes; i++) at("class").add(new Option(i, i));
  }
  if (about.held_out) {
    at("seed-name").textContent = "Held-out sample"; at("count-box").hidden = true;
  }
  if (about.picture) at("picture-box").hidden = false;
  generate();
});
</script>
</body>
</html>
"""
