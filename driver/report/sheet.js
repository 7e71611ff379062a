"use strict";

const CHINESE = new Map(Object.entries({
  "Images": "图片", "Rows": "行", "Servers": "服务器", "Server": "服务器", "Seconds": "秒", "Started": "开始",
  "Finished": "结束", "Recipe": "配方", "Table": "表格", "Workflow": "工作流", "Run": "运行", "Time": "用时",
  "Sort": "排序", "Table order": "表格顺序", "Slowest first": "最慢在前", "Most attempts first": "尝试最多在前",
  "Size": "尺寸", "Nothing matches.": "没有符合条件的图片。", "Show all": "显示全部", "All": "全部", "of": "/",
  "Search prompt, id, file, error": "搜索提示词、编号、文件、错误", "Status": "状态",
  "done": "完成", "failed": "失败", "quarantined": "已隔离", "submitted": "已提交", "pending": "等待中",
  "cancelled": "已取消", "Prompt": "提示词", "Negative prompt": "负面提示词", "Seed": "种子", "seed": "种子", "File": "文件",
  "Row": "行", "Variant": "变体", "Image": "图片", "Attempts": "尝试次数", "Error": "错误", "Copy": "复制",
  "Copied": "已复制", "Copy prompt": "复制提示词", "Copy seed": "复制种子", "Previous": "上一张", "Next": "下一张",
  "Close": "关闭", "The image file is missing.": "图片文件不见了。", "attempts": "次尝试", "s": "秒",
}));
const STATES = ["done", "failed", "quarantined", "submitted", "pending", "cancelled"];
const ORDERS = {
  table: null,
  slowest: (a, b) => (b.seconds ?? -1) - (a.seconds ?? -1),
  attempts: (a, b) => b.attempts - a.attempts,
};
const SPARE_LINES = 3;

const get = (id) => document.getElementById(id);
const grid = get("grid");
const viewer = get("viewer");
const inChinese = navigator.language.startsWith("zh");
const text = (words) => (inChinese && CHINESE.get(words)) || words;
const number = (value) => value.toLocaleString();
const link = (path) => "./" + path.split("/").map(encodeURIComponent).join("/");

function make(tag, properties, ...children) {
  const node = Object.assign(document.createElement(tag), properties);
  node.append(...children);
  return node;
}

const { fields, rows } = JSON.parse(get("data").textContent);
const entries = rows.map((values) => {
  const entry = {};
  fields.forEach((field, i) => { entry[field] = values[i]; });
  return entry;
});
const severalVariants = entries.some((entry) => entry.variant > 1);

// -- which entries are shown --

let shown = [];
let status = "";
const cards = new Map();

function haystack(entry) {
  const { id, file, prompt, negative, seed, server, error } = entry;
  return entry.haystack ??= [id, file, prompt, negative, seed, server, error].join("\n").toLowerCase();
}

function select() {
  const words = get("words").value.toLowerCase().split(/\s+/).filter(Boolean);
  shown = entries.filter((entry) =>
    (!status || entry.status === status) && words.every((word) => haystack(entry).includes(word)));
  const order = ORDERS[get("order").value];
  if (order) shown.sort(order);
  get("count").value =
    shown.length === entries.length ? "" : `${number(shown.length)} ${text("of")} ${number(entries.length)}`;
  get("nothing").hidden = shown.length > 0;
  for (const chip of get("chips").children) chip.setAttribute("aria-pressed", chip.value === status);
  cards.clear();
  grid.replaceChildren();
  scrollTo(0, Math.min(scrollY, get("bar").offsetTop));
  draw();
}

// -- the grid: only the cards near the window exist; padding stands for the others --

function place(i, before) {
  const node = card(i);
  cards.set(i, node);
  grid.insertBefore(node, before);
  return node;
}

function measure() {
  const style = getComputedStyle(grid);
  const sample = grid.firstElementChild ?? place(0, null);
  return {
    columns: style.gridTemplateColumns.split(" ").length,
    line: sample.getBoundingClientRect().height + parseFloat(style.rowGap),
  };
}

function draw() {
  if (!shown.length) {
    grid.style.padding = 0;
    return;
  }
  const { columns, line } = measure();
  const lines = Math.ceil(shown.length / columns);
  const top = -grid.getBoundingClientRect().top;
  const clamp = (value) => Math.max(0, Math.min(lines, value));
  const firstLine = clamp(Math.floor(top / line) - SPARE_LINES);
  const lastLine = clamp(Math.ceil((top + innerHeight) / line) + SPARE_LINES);
  const first = firstLine * columns;
  const last = Math.min(shown.length, lastLine * columns);
  for (const [i, node] of cards) {
    if (i < first || i >= last) {
      node.remove();
      cards.delete(i);
    }
  }
  for (let i = last - 1, after = null; i >= first; i--) after = cards.get(i) ?? place(i, after);
  grid.style.padding = `${firstLine * line}px 0 ${(lines - lastLine) * line}px`;
}

let waiting = 0;
function drawSoon() {
  waiting ||= requestAnimationFrame(() => {
    waiting = 0;
    draw();
  });
}

// -- one entry --

const size = (entry) => entry.width && entry.height ? `${entry.width} × ${entry.height}` : "";
const seconds = (entry) => entry.seconds === null ? "" : `${entry.seconds.toFixed(1)} ${text("s")}`;
const attempts = (entry) => entry.attempts > 1 ? `${entry.attempts} ${text("attempts")}` : "";
const join = (...facts) => facts.filter(Boolean).join(" · ");
const server = (entry) => entry.server.replace(/^\w+:\/\//, "");

function dot(entry) {
  const node = make("span", { className: "dot", role: "img", ariaLabel: text(entry.status), title: text(entry.status) });
  node.dataset.status = entry.status;
  return node;
}

function shot(entry, path) {
  const node = make(entry.file ? "a" : "div", { className: "shot" });
  node.dataset.status = entry.status;
  if (!entry.file) {
    node.append(entry.error
      ? make("p", { className: "error", dir: "auto" }, entry.error)
      : make("p", {}, text(entry.status)));
    return node;
  }
  const missing = () => node.replaceChildren(make("p", {}, text("The image file is missing.")));
  node.href = link(entry.file);
  node.append(make("img", {
    alt: entry.prompt.slice(0, 200) || entry.id, loading: "lazy", decoding: "async", onerror: missing, src: link(path),
  }));
  return node;
}

function copyButton(value, label, name) {
  const button = make("button", { className: "copy", type: "button", title: name, ariaLabel: name }, label);
  button.onclick = async () => {
    await copy(value, button);
    button.textContent = text("Copied");
    setTimeout(() => { button.textContent = label; }, 1200);
  };
  return button;
}

async function copy(value, button) {
  if (navigator.clipboard) return navigator.clipboard.writeText(value);
  const area = make("textarea", { value });  // a page served over plain http has no clipboard
  button.after(area);
  area.select();
  document.execCommand("copy");
  area.remove();
  button.focus();
}

function card(i) {
  const entry = shown[i];
  const picture = shot(entry, entry.thumbnail || entry.file);
  if (!entry.file) Object.assign(picture, { tabIndex: 0, role: "button" });
  picture.onclick = (event) => {
    if (event.ctrlKey || event.metaKey || event.shiftKey) return;
    event.preventDefault();
    view(i);
  };
  picture.onkeydown = (event) => { if (event.key === "Enter" && !entry.file) view(i); };
  return make("li", { className: "card", ariaSetSize: shown.length, ariaPosInSet: i + 1 }, picture,
    copyButton(entry.prompt, text("Copy prompt"), text("Copy prompt")),
    make("div", { className: "about" },
      make("div", { className: "name" }, dot(entry), make("bdi", { title: entry.id }, entry.id),
        make("small", {}, severalVariants ? `v${entry.variant}` : "")),
      make("p", { className: "prompt", dir: "auto", title: entry.prompt.slice(0, 1000) }, entry.prompt.slice(0, 300)),
      make("p", { className: "facts" }, join(size(entry), seconds(entry)) || text(entry.status)),
      make("p", { className: "facts", title: entry.server }, join(server(entry), attempts(entry))),
      make("p", { className: "facts" },
        entry.seed === null ? "" : copyButton(entry.seed, `${text("seed")} ${entry.seed}`, text("Copy seed")))));
}

// -- one entry, large --

let viewed = 0;

function part(title, value, button = "") {
  return value ? [make("section", {}, make("h3", {}, text(title)), make("pre", { dir: "auto" }, value), button)] : [];
}

function view(i) {
  viewed = i;
  const entry = shown[i];
  const facts = [
    ["Status", text(entry.status)], ["Seed", entry.seed], ["Size", size(entry)], ["Time", seconds(entry)],
    ["Server", entry.server], ["Attempts", entry.attempts], ["Row", entry.row], ["Variant", entry.variant], ["Image", entry.file && entry.index],
    ["File", entry.file && make("a", { href: link(entry.file), target: "_blank", dir: "auto" }, entry.file)],
  ].filter(([, value]) => value !== null && value !== "");
  const step = (title, to) =>
    make("button", { type: "button", disabled: to < 0 || to >= shown.length, onclick: () => view(to) }, text(title));
  const list = make("dl", {});
  for (const [name, value] of facts) {
    const cell = make("dd", {}, value);
    if (name === "Seed") cell.append(copyButton(value, text("Copy"), text("Copy seed")));
    list.append(make("dt", {}, text(name)), cell);
  }
  const picture = shot(entry, entry.file);
  picture.target = "_blank";
  viewer.replaceChildren(picture, make("aside", {},
    make("nav", {}, step("Previous", i - 1), step("Next", i + 1),
      make("button", { type: "button", onclick: () => viewer.close() }, text("Close"))),
    make("h2", {}, dot(entry), make("bdi", {}, entry.id)),
    ...part("Prompt", entry.prompt, copyButton(entry.prompt, text("Copy"), text("Copy prompt"))),
    ...part("Negative prompt", entry.negative),
    ...(entry.file ? part("Error", entry.error) : []),
    list));
  if (!viewer.open) viewer.showModal();
  viewer.focus();  // what had it is gone
}

viewer.onkeydown = (event) => {
  const to = viewed + ({ ArrowLeft: -1, ArrowRight: 1 }[event.key] ?? 0);
  if (to !== viewed && shown[to]) view(to);
};
viewer.onclose = () => {
  if (!cards.has(viewed)) {
    const { columns, line } = measure();
    scrollTo(0, grid.offsetTop + Math.floor(viewed / columns) * line - innerHeight / 3);
    draw();
  }
  cards.get(viewed).querySelector(".shot").focus();
};

// -- the tools --

function chip(state, count) {
  const button = make("button", { type: "button", value: state }, text(state || "All"), make("b", {}, number(count)));
  if (state) button.prepend(make("span", { className: "dot" }));
  button.dataset.status = state;
  button.onclick = () => {
    status = state;
    select();
  };
  return button;
}

const counts = new Map();
for (const entry of entries) counts.set(entry.status, (counts.get(entry.status) ?? 0) + 1);
get("chips").append(chip("", entries.length));
for (const state of STATES.filter((state) => counts.has(state))) {
  get("chips").append(chip(state, counts.get(state)));
  const segment = make("i", {});
  segment.dataset.status = state;
  segment.style.flexGrow = counts.get(state);
  get("bar").append(segment);
}
get("images").textContent = number(entries.filter((entry) => entry.file).length);
document.documentElement.lang = inChinese ? "zh" : "en";
for (const node of document.querySelectorAll("[data-text]")) node.textContent = text(node.textContent);
get("words").placeholder = get("words").ariaLabel = text("Search prompt, id, file, error");
get("chips").ariaLabel = text("Status");

let typing = 0;
get("words").oninput = () => {
  clearTimeout(typing);
  typing = setTimeout(select, 120);
};
get("order").onchange = select;
get("tile").oninput = () => {
  document.documentElement.style.setProperty("--tile", `${get("tile").value}px`);
  draw();
};
get("reset").onclick = () => {
  get("words").value = status = "";
  select();
};
addEventListener("scroll", drawSoon, { passive: true });
addEventListener("resize", drawSoon);
select();
